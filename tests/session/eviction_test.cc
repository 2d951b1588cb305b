#include "session/eviction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "session/store_content.h"
#include "session/store_index.h"

namespace ds4 {
namespace {

using test::Conversation;
using ::testing::ElementsAre;

constexpr uint64_t kPageSize = 10'000;
constexpr uint64_t kCheckpointSize = 20'000;
constexpr int64_t kStart = 1'000'000;

// An index that knows records and has no files.
class EvictionTest : public ::testing::Test {
 protected:
  EvictionTest() { index_.add_segment(1, {.ours = true}); }

  void add_page(const StoredPage& page, int64_t written_s = kStart) {
    if (index_.find_page(page.key) != nullptr) return;
    add({.kind = RecordKind::kPage,
         .meta_bytes = 4 * test::kTokensPerPage,
         .n_tokens = test::kTokensPerPage,
         .payload_bytes = kPageSize,
         .key = page.key,
         .parent = page.parent,
         .used_s = written_s},
        {});
  }
  Hash128 add_checkpoint(const Conversation& conversation, int n_tokens, int64_t used_s = kStart) {
    for (int i = 0; i < n_tokens / test::kTokensPerPage; ++i) add_page(conversation.page(i), used_s);
    const StoredCheckpoint checkpoint = conversation.checkpoint(n_tokens);
    add({.kind = RecordKind::kCheckpoint,
         .meta_bytes = static_cast<uint32_t>(4 * checkpoint.tail_tokens.size()),
         .n_tokens = n_tokens,
         .payload_bytes = kCheckpointSize,
         .key = checkpoint.key,
         .parent = checkpoint.parent,
         .used_s = used_s},
        checkpoint.tail_tokens);
    return checkpoint.key;
  }
  void add(const RecordHeader& header, std::vector<int32_t> tail_tokens) {
    index_.add(header, {1, header.meta_bytes, next_, header.payload_bytes}, std::move(tail_tokens));
    next_ += record_bytes(header);
  }

  // Evicts everything and returns the keys in the order in which they went.
  std::vector<Hash128> all_victims(int64_t now_s) {
    std::vector<Hash128> order;
    for (;;) {
      const auto victims = eviction_order(index_, now_s);
      if (victims.empty()) return order;
      for (const Victim& victim : victims) {
        order.push_back(victim.key);
        if (victim.is_page) index_.evict_page(victim.key);
        if (!victim.is_page) index_.evict_checkpoint(victim.key);
      }
    }
  }

  StoreIndex index_;
  uint64_t next_ = 64;
};

TEST_F(EvictionTest, WhatWasNotUsedForLongestGoesFirst) {
  const Hash128 old = add_checkpoint(Conversation(1), 16, kStart);
  const Hash128 young = add_checkpoint(Conversation(2), 16, kStart + 200'000);
  const Hash128 middle = add_checkpoint(Conversation(3), 16, kStart + 100'000);
  EXPECT_THAT(all_victims(kStart + 300'000), ElementsAre(old, middle, young));
  EXPECT_TRUE(index_.pages().empty()) << "pages go with the last checkpoint that needs them";
  EXPECT_EQ(index_.live_bytes(), 0u);
}

TEST_F(EvictionTest, HitsOutweighAgeForAWhile) {
  const Hash128 used = add_checkpoint(Conversation(1), 16);
  const Hash128 fresh = add_checkpoint(Conversation(2), 16, kStart + kHalfLifeSeconds);
  for (int i = 0; i < 3; ++i) index_.touch(used, kStart + i);
  const int64_t now = kStart + kHalfLifeSeconds;
  EXPECT_EQ(eviction_order(index_, now)[0].key, fresh);
  // 4 uses, one half life old, against one of now: 4 / 2 > 1; when both are touched, the fresh one leads.
  index_.touch(fresh, now);
  index_.touch(fresh, now);
  EXPECT_EQ(eviction_order(index_, now)[0].key, used);
}

TEST_F(EvictionTest, HitsDecay) {
  const Hash128 key = add_checkpoint(Conversation(1), 16);
  for (int i = 0; i < 4; ++i) index_.touch(key, kStart);
  EXPECT_DOUBLE_EQ(index_.find_checkpoint(key)->hits, 4);
  index_.touch(key, kStart + kHalfLifeSeconds);
  EXPECT_DOUBLE_EQ(index_.find_checkpoint(key)->hits, 3);
  index_.touch(key, kStart);  // the clock was set back
  EXPECT_DOUBLE_EQ(index_.find_checkpoint(key)->hits, 4);
}

TEST_F(EvictionTest, OfAChainTheOneWhoseLossCostsLeastGoesFirst) {
  // 40 tokens would have to be computed again without the last, but only 2 without the one just before.
  const Hash128 first = add_checkpoint(Conversation(1), 16);
  const Hash128 near = add_checkpoint(Conversation(1), 18);
  const Hash128 last = add_checkpoint(Conversation(1), 56);
  const auto order = all_victims(kStart);
  EXPECT_EQ(order[0], near);
  EXPECT_EQ(order.size(), 3u);
  EXPECT_THAT(order, ::testing::UnorderedElementsAre(first, near, last));
}

TEST_F(EvictionTest, TailsOfOtherBranchesAreNoPrefixes) {
  // Both have 9 tokens of their own behind one page; neither helps the other.
  const Hash128 one = add_checkpoint(Conversation(1, 8), 15);
  const Hash128 other = add_checkpoint(Conversation(2, 8), 15);
  const Hash128 longer = add_checkpoint(Conversation(2, 8), 15 + 0);
  EXPECT_EQ(other, longer);
  const auto victims = eviction_order(index_, kStart);
  ASSERT_EQ(victims.size(), 1u);
  const double alone = victims[0].log_value;
  // With a prefix of its own in the store, less would be lost with the longer one.
  add_checkpoint(Conversation(1, 8), 14);
  const auto with_prefix = eviction_order(index_, kStart);
  EXPECT_EQ(with_prefix[0].key, one);
  EXPECT_LT(with_prefix[0].log_value, alone);
}

TEST_F(EvictionTest, SharedPagesStayForTheOthers) {
  const Hash128 one = add_checkpoint(Conversation(1, 16), 24);
  add_checkpoint(Conversation(2, 16), 24);
  index_.evict_checkpoint(one);
  EXPECT_EQ(index_.pages().size(), 3u);
  EXPECT_EQ(index_.find_page(Conversation(1, 16).page(2).key), nullptr);
  EXPECT_NE(index_.find_page(Conversation(1, 16).page(1).key), nullptr);
}

TEST_F(EvictionTest, PagesThatNothingNeedsAreVictimsUnlessPinned) {
  for (int i = 0; i < 3; ++i) add_page(Conversation(1).page(i));
  index_.pin(Conversation(1).page(1).key);
  EXPECT_THAT(all_victims(kStart), ElementsAre(Conversation(1).page(2).key));
  EXPECT_EQ(index_.pages().size(), 2u);
  index_.unpin(Conversation(1).page(1).key);
  EXPECT_THAT(all_victims(kStart), ElementsAre(Conversation(1).page(1).key)) << "and the first with it";
  EXPECT_TRUE(index_.pages().empty());
}

TEST_F(EvictionTest, OnlyASixteenthIsChosenAtOnce) {
  for (int i = 0; i < 64; ++i) add_checkpoint(Conversation(i), 4, kStart + i);
  const auto victims = eviction_order(index_, kStart + 100);
  ASSERT_EQ(victims.size(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(victims[static_cast<size_t>(i)].key, Conversation(i).checkpoint(4).key);
}

TEST_F(EvictionTest, LongChainsNeedNoStack) {
  StoredPage page;
  for (int i = 0; i < 200'000; ++i) {
    page.parent = page.key;
    page.key = {static_cast<uint64_t>(i) + 1, 1};
    add_page(page);
  }
  add({.kind = RecordKind::kCheckpoint, .n_tokens = 8 * 200'000, .key = {1, 2}, .parent = page.key}, {});
  ASSERT_EQ(eviction_order(index_, kStart).size(), 1u);
  EXPECT_EQ(index_.evict_checkpoint({1, 2}).n_pages, 200'000);
}

}  // namespace
}  // namespace ds4
