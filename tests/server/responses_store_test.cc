#include "server/openai_responses_store.h"

#include <gtest/gtest.h>

#include "server/custom_input.h"
#include "server/sealed_text.h"

namespace ds4 {
namespace {

StoredItemPtr item(const std::string& id, size_t n_bytes = 10) {
  return std::make_shared<const StoredItem>(StoredItem{id, std::string(n_bytes, 'x')});
}

StoredResponse response(const std::string& id, std::vector<StoredItemPtr> input = {},
                        std::vector<StoredItemPtr> output = {}) {
  return {.id = id, .json = "{}", .input = std::move(input), .output = std::move(output)};
}

TEST(ResponseStoreTest, KeepsAndForgets) {
  ResponseStore store;
  store.put(response("a", {item("i1")}, {item("o1")}));
  ASSERT_NE(store.find("a"), nullptr);
  EXPECT_EQ(store.find_item("o1")->id, "o1");
  EXPECT_EQ(store.find("b"), nullptr);
  EXPECT_TRUE(store.erase("a"));
  EXPECT_FALSE(store.erase("a"));
  EXPECT_EQ(store.find_item("o1"), nullptr);
  EXPECT_EQ(store.n_bytes(), 0U);
}

TEST(ResponseStoreTest, ForgetsWhatWasNotUsedForLongest) {
  ResponseStore store({.max_responses = 2, .max_bytes = size_t{1} << 20});
  store.put(response("a"));
  store.put(response("b"));
  store.find("a");
  store.put(response("c"));
  EXPECT_NE(store.find("a"), nullptr);
  EXPECT_EQ(store.find("b"), nullptr);
}

TEST(ResponseStoreTest, CountsSharedItemsOnce) {
  ResponseStore store({.max_responses = 100, .max_bytes = 100000});
  const StoredItemPtr shared = item("i", 40000);
  store.put(response("a", {shared}));
  const size_t n_bytes = store.n_bytes();
  store.put(response("b", {shared}));
  EXPECT_LT(store.n_bytes(), n_bytes + 1000);
  EXPECT_EQ(store.n_responses(), 2U);
  store.erase("a");
  EXPECT_NE(store.find_item("i"), nullptr);
  EXPECT_GT(store.n_bytes(), 40000U);
  store.erase("b");
  EXPECT_EQ(store.n_bytes(), 0U);
}

TEST(ResponseStoreTest, BoundsItsBytes) {
  ResponseStore store({.max_responses = 100, .max_bytes = 100000});
  for (int i = 0; i < 50; ++i) {
    store.put(response("r" + std::to_string(i), {item("i" + std::to_string(i), 20000)}));
    EXPECT_LE(store.n_bytes(), 100000U);
  }
  EXPECT_NE(store.find("r49"), nullptr);
  store.put(response("huge", {item("h", 200000)}));
  EXPECT_EQ(store.find("huge"), nullptr);
  EXPECT_EQ(store.n_bytes(), 0U);
}

TEST(ResponseStoreTest, KeepsANewerItemOfTheSameId) {
  ResponseStore store;
  store.put(response("a", {item("same")}));
  const StoredItemPtr newer = item("same", 5);
  store.put(response("b", {newer}));
  store.erase("a");
  EXPECT_EQ(store.find_item("same"), newer);
}

TEST(TextSealerTest, OpensWhatItSealedAndNothingElse) {
  const TextSealer sealer;
  for (const std::string text : {"", "a", "ab", "abc", "Grüße \"x\"\n"}) {
    const std::string sealed = sealer.seal(text);
    EXPECT_EQ(sealer.open(sealed), text);
    EXPECT_NE(sealer.seal(text), sealed);
    EXPECT_EQ(TextSealer().open(sealed), std::nullopt);
    // Up to the last group of four, whose unused bits may change without a meaning.
    for (size_t i = 6; i + 4 < sealed.size(); ++i) {
      std::string changed = sealed;
      changed[i] = changed[i] == 'A' ? 'B' : 'A';
      EXPECT_EQ(sealer.open(changed), std::nullopt) << i;
    }
    EXPECT_EQ(sealer.open(sealed.substr(0, sealed.size() - 4)), std::nullopt);
  }
  for (const char* other : {"", "ds4-1.", "ds4-1.====", "ds4-1.AAAA", "gAAAAABk", "ds4-1.\xFF\xFF\xFF\xFF"}) {
    EXPECT_EQ(sealer.open(other), std::nullopt) << other;
  }
}

TEST(CustomInputTest, DecodesWhateverTheCuts) {
  const std::string arguments = R"({"input": "a\n\"b\" \\ \u00fc \ud83d\ude00 😀 \ud83d x"})";
  const std::string expected = "a\n\"b\" \\ ü 😀 😀 \xEF\xBF\xBD x";
  for (size_t first = 0; first <= arguments.size(); ++first) {
    for (size_t second = first; second <= arguments.size(); ++second) {
      CustomInput input;
      std::string streamed = input.push(arguments.substr(0, first));
      streamed += input.push(arguments.substr(first, second - first));
      streamed += input.push(arguments.substr(second));
      streamed += input.finish(arguments);
      ASSERT_EQ(streamed, expected) << first << " " << second;
      ASSERT_EQ(input.text(), expected);
    }
  }
}

}  // namespace
}  // namespace ds4
