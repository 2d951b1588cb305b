#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>

namespace ds4 {
namespace {

std::array<int32_t, 256> identity_bytes() {
  std::array<int32_t, 256> ids{};
  for (int32_t byte = 0; byte < 256; ++byte) ids[static_cast<size_t>(byte)] = byte;
  return ids;
}

std::vector<int32_t> encode(const Bpe& bpe, std::string_view piece) {
  BpeScratch scratch;
  std::vector<int32_t> ids;
  bpe.append_ids(piece, scratch, ids);
  return ids;
}

// The definition, word for word: lowest rank first, leftmost among equals.
std::vector<int32_t> encode_by_definition(const std::vector<BpeMerge>& merges, std::string_view piece) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t rank = 0; rank < merges.size(); ++rank)
    ranks.emplace(std::pair(merges[rank].left, merges[rank].right), rank);
  std::vector<int32_t> ids;
  for (const char byte : piece) ids.push_back(static_cast<uint8_t>(byte));
  while (true) {
    size_t best = merges.size();
    size_t place = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = ranks.find(std::pair(ids[i], ids[i + 1]));
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        place = i;
      }
    }
    if (best == merges.size()) return ids;
    ids[place] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(place) + 1);
  }
}

TEST(BpeTest, EqualsTheDefinitionOnRandomMerges) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> symbols{'a', 'b', 'c'};
    std::vector<BpeMerge> merges;
    for (int32_t i = 0; i < 1 + static_cast<int32_t>(random() % 20); ++i) {
      const int32_t left = symbols[random() % symbols.size()];
      const int32_t right = symbols[random() % symbols.size()];
      // Several merges may give the same token, and the same pair may be listed twice.
      const int32_t merged = random() % 4 == 0 ? symbols.back() : 256 + i;
      merges.push_back({left, right, merged});
      symbols.push_back(merged);
    }
    const Bpe bpe(identity_bytes(), merges);
    for (int i = 0; i < 20; ++i) {
      std::string piece(random() % 40, 'a');
      for (char& c : piece) c = static_cast<char>('a' + random() % 3);
      ASSERT_EQ(encode(bpe, piece), encode_by_definition(merges, piece)) << piece;
    }
  }
}

TEST(BpeTest, LeftmostOfEqualPairsMergesFirst) {
  const Bpe bpe(identity_bytes(), {{'a', 'a', 256}});
  EXPECT_EQ(encode(bpe, "aaa"), (std::vector<int32_t>{256, 'a'}));
  EXPECT_EQ(encode(bpe, "aaaaa"), (std::vector<int32_t>{256, 256, 'a'}));
}

TEST(BpeTest, OnlyListedPairsMergeEvenWhenTheTokenExists) {
  // "abc" = a + bc is listed; ab + c spells the same and is not.
  const Bpe bpe(identity_bytes(), {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 257, 258}});
  EXPECT_EQ(encode(bpe, "abc"), (std::vector<int32_t>{256, 'c'}));
  EXPECT_EQ(encode(bpe, "bc"), (std::vector<int32_t>{257}));
}

TEST(BpeTest, EmptyPieceAndSingleBytes) {
  const Bpe bpe(identity_bytes(), {});
  EXPECT_TRUE(encode(bpe, "").empty());
  EXPECT_EQ(encode(bpe, std::string_view("\0\xFF", 2)), (std::vector<int32_t>{0, 255}));
}

TEST(BpeTest, MillionByteRunStaysFast) {
  // Quadratic merging would need 10^11 steps here and run into the test's time limit.
  const Bpe bpe(identity_bytes(), {{' ', ' ', 256}, {256, 256, 257}, {257, 257, 258}});
  EXPECT_EQ(encode(bpe, std::string(1'000'003, ' ')).size(), 125'000u + 2);
}

}  // namespace
}  // namespace ds4
