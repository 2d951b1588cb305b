// Generated documents are committed; this keeps them current. DS4_UPDATE_DOCS=1 in the environment rewrites them.

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "base/file.h"
#include "model/hyperparams.h"
#include "model/weight_table.h"

namespace ds4::test {

namespace {

void expect_document(const std::string& name, const std::string& text) {
  const std::string path = std::string(DS4_SOURCE_DIR) + "/docs/" + name;
  if (std::getenv("DS4_UPDATE_DOCS") != nullptr) {
    ASSERT_TRUE(atomic_write(path, std::as_bytes(std::span(text))).ok());
  }
  const auto found = read_file(path, 1 << 20);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(found.value(), text) << "rewrite docs/" << name << " by running this test with DS4_UPDATE_DOCS=1";
}

TEST(DocsTest, WeightsAreCurrent) { expect_document("weights.md", weights_markdown()); }

TEST(DocsTest, HyperparamsAreCurrent) { expect_document("hyperparams.md", hyperparams_markdown()); }

}  // namespace

}  // namespace ds4::test
