#include "session/hash.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace ds4 {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Values are part of files: these may never change. XXH3-64 of nothing is published with the algorithm.
TEST(HashTest, ValuesAreFixed) {
  EXPECT_EQ(checksum_of({}), 0x2D06800538D394C2u);
  const std::vector<int32_t> tokens = {1, 2, 3};
  EXPECT_EQ(to_text(page_key({}, tokens)), "314bcfbba8cda5e99f59a8edb9f7a5f5");  // as xxhsum -H128 says
  EXPECT_EQ(to_text({0x1, 0xab}), "00000000000000ab0000000000000001");
}

TEST(HashTest, ChainsDependOnEverythingBefore) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  const Hash128 first = page_key({}, tokens);
  EXPECT_NE(first, page_key(first, tokens));
  EXPECT_NE(page_key({1, 0}, tokens), page_key({0, 1}, tokens));
  EXPECT_NE(page_key(first, tokens), page_key(first, std::span(tokens).first(2)));
  EXPECT_NE(page_key(first, {}), first);
  EXPECT_EQ(page_key(first, tokens), hash_bytes(std::as_bytes(std::span(tokens)), first));
}

TEST(HashTest, StreamsEqualTheWholeHoweverTheyAreCut) {
  std::vector<std::byte> bytes(5000);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  const uint64_t whole = checksum_of(bytes);
  for (const size_t step : {1, 63, 64, 256, 1024, 5000}) {
    StreamChecksum stream;
    for (size_t at = 0; at < bytes.size(); at += step) {
      stream.add(std::span(bytes).subspan(at, std::min(step, bytes.size() - at)));
    }
    EXPECT_EQ(stream.value(), whole) << step;
  }
  EXPECT_NE(checksum_of(bytes, 1), whole);
  EXPECT_NE(checksum_of(bytes_of("a")), checksum_of(bytes_of("b")));
}

}  // namespace
}  // namespace ds4
