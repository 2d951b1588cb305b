// The disk store within its budget: exact at every moment, and what goes when it is full.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "session/disk_store.h"
#include "session/eviction.h"
#include "session/rate_limiter.h"
#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;
using test::MemoryStore;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

void put_all(DiskStore& store, const Conversation& conversation, int n_tokens) {
  ASSERT_TRUE(test::put_conversation(store, conversation, n_tokens));
  ASSERT_TRUE(store.flush().ok());
}

// Anything that can happen to a store, in any order.
class RandomWorkload {
 public:
  explicit RandomWorkload(uint64_t seed) : random_(seed) {
    choose_budget();
    memory_.options.segment_bytes = below(3) == 0 ? 0 : 300 + below(20'000);
    store_ = memory_.open();
  }

  void step() {
    const Conversation conversation(static_cast<int>(below(12)), static_cast<int>(8 * below(5)));
    const int n_tokens = 1 + static_cast<int>(below(90));
    const uint64_t action = below(100);
    if (action < 60) {
      test::put_conversation(*store_, conversation, n_tokens);
    } else if (action < 70) {
      EXPECT_TRUE(store_->put_blob("key" + std::to_string(below(50)), std::string(below(900), 'b')));
    } else if (action < 80) {
      store_->touch(conversation.checkpoint(n_tokens).key);
    } else if (action < 90) {
      EXPECT_TRUE(store_->flush().ok());
    } else if (action < 95) {
      EXPECT_EQ(test::check_everything(*store_), "");
    } else {
      store_.reset();
      if (action == 99) choose_budget();
      store_ = memory_.open();
    }
    memory_.clock.advance(static_cast<int64_t>(below(5000)));
    EXPECT_LE(store_->statistics().disk_bytes, memory_.options.budget_bytes);
    EXPECT_LE(memory_.files.total_bytes(), memory_.options.budget_bytes);
  }

  void finish() {
    EXPECT_TRUE(store_->flush().ok());
    EXPECT_EQ(store_->statistics().n_dropped_damaged, 0);
    EXPECT_LE(memory_.files.total_bytes(), store_->statistics().disk_bytes);
    int n_restored = 0;
    EXPECT_EQ(test::check_everything(*store_, &n_restored), "");
    EXPECT_EQ(n_restored, store_->statistics().n_checkpoints);
  }

 private:
  uint64_t below(uint64_t n) { return (random_.next() >> 33) % n; }
  void choose_budget() { memory_.options.budget_bytes = 5000 + below(120'000); }

  Xorshift64Star random_;
  MemoryStore memory_;
  std::unique_ptr<DiskStore> store_;
};

TEST(StoreBudgetTest, RandomWorkloadsNeverExceedTheBudget) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    RandomWorkload workload(seed);
    for (int i = 0; i < 150; ++i) workload.step();
    workload.finish();
    ASSERT_FALSE(::testing::Test::HasFailure()) << seed;
  }
}

TEST(StoreBudgetTest, ThePeakIsWithinTheBudgetWhileWritingAndCompacting) {
  MemoryStore memory;
  memory.options.budget_bytes = 100'000;
  memory.options.segment_bytes = 9000;
  {
    const auto store = memory.open();
    for (int i = 0; i < 200; ++i) {
      // Two in turn stay in use, so that segments are half dead and must be copied.
      put_all(*store, Conversation(i), 20 + i % 30);
      store->touch(Conversation(i - i % 10).checkpoint(20 + (i - i % 10) % 30).key);
      memory.clock.advance(3600);
    }
    EXPECT_GT(store->statistics().compacted_bytes, 0u);
    // A byte copied at most for a byte freed, and no more is freed than is written.
    EXPECT_LT(store->statistics().compacted_bytes, store->statistics().written_bytes / 2);
    EXPECT_GT(store->statistics().live_bytes, memory.options.budget_bytes / 3);
  }
  EXPECT_LE(memory.files.peak_bytes(), memory.options.budget_bytes);
  EXPECT_GT(memory.files.peak_bytes(), memory.options.budget_bytes * 8 / 10);
}

TEST(StoreBudgetTest, WhatIsUsedOutlivesWhatIsNot) {
  MemoryStore memory;
  memory.options.budget_bytes = 60'000;
  const auto store = memory.open();
  put_all(*store, Conversation(0, 16), 20);
  for (int i = 1; i < 60; ++i) {
    put_all(*store, Conversation(i), 20);
    store->touch(Conversation(0, 16).checkpoint(20).key);
    memory.clock.advance(kHalfLifeSeconds / 4);
  }
  EXPECT_EQ(test::check_restore(*store, Conversation(0, 16).checkpoint(20)), "");
  const auto n_left = [&](int first, int last) {
    int n = 0;
    for (int i = first; i <= last; ++i) n += store->has_checkpoint(Conversation(i).checkpoint(20).key) ? 1 : 0;
    return n;
  };
  EXPECT_GT(n_left(1, 59), 5);
  EXPECT_GT(n_left(50, 59), n_left(1, 10) + 2);
  EXPECT_THAT(store->take_notices(), IsEmpty());
}

TEST(StoreBudgetTest, UsageSurvivesRestarts) {
  MemoryStore memory;
  memory.options.budget_bytes = 60'000;
  // The largest of ten would be the first to go.
  const auto bytes = [](int i) { return Conversation(i).checkpoint(20).payload_bytes; };
  int largest = 0;
  for (int i = 1; i < 10; ++i) largest = bytes(i) > bytes(largest) ? i : largest;
  const Hash128 key = Conversation(largest).checkpoint(20).key;
  for (const int n_hits : {0, 20}) {
    memory.files.restore({});
    {
      const auto store = memory.open();
      for (int i = 0; i < 10; ++i) put_all(*store, Conversation(i), 20);
      for (int hit = 0; hit < n_hits; ++hit) store->touch(key);
    }
    const auto store = memory.open();
    for (int i = 10; i < 50; ++i) put_all(*store, Conversation(i), 20);
    EXPECT_EQ(store->has_checkpoint(key), n_hits > 0);
  }
}

TEST(StoreBudgetTest, OtherIdentitiesGoFirstTheLeastRecentlyUsedBeforeTheOthers) {
  MemoryStore memory;
  memory.options.budget_bytes = 60'000;
  const auto with_identity = [&memory](uint64_t identity) {
    DiskStoreOptions options = memory.options;
    options.identity = {identity, 0};
    return DiskStore::open(options, {&memory.files, &memory.clock}).take_value();
  };
  for (const uint64_t identity : {7, 8}) put_all(*with_identity(identity), Conversation(1), 60);
  memory.files.set_modified("dir/kv-00000001.seg", 200);
  memory.files.set_modified("dir/kv-00000002.seg", 100);
  const auto n_left = [&](uint64_t identity) { return std::ssize(with_identity(identity)->checkpoints()); };
  const auto write_some = [&](int first) {
    const auto store = memory.open();
    for (int i = first; store->statistics().disk_bytes + 6000 < memory.options.budget_bytes; ++i) {
      put_all(*store, Conversation(i), 20);
    }
    for (int i = 100; std::ssize(memory.files.paths()) > 0 && i < 101; ++i)
      put_all(*store, Conversation(i + first), 60);
  };
  write_some(10);
  EXPECT_EQ(n_left(8), 0);
  EXPECT_EQ(n_left(7), 1);
  write_some(200);
  EXPECT_EQ(n_left(7), 0);
  EXPECT_TRUE(memory.open()->has_checkpoint(Conversation(10).checkpoint(20).key)) << "before anything of ours";
}

TEST(StoreBudgetTest, ASmallerBudgetIsKeptFromTheStart) {
  MemoryStore memory;
  {
    const auto store = memory.open();
    for (int i = 0; i < 40; ++i) put_all(*store, Conversation(i, 8), 30);
  }
  EXPECT_GT(memory.files.total_bytes(), 100'000u);
  const uint64_t peak = memory.files.peak_bytes();
  for (const int budget : {100'000, 50'000, 20'000, 5'000}) {
    memory.options.budget_bytes = static_cast<uint64_t>(budget);
    const auto store = memory.open();
    EXPECT_LE(memory.files.total_bytes(), memory.options.budget_bytes);
    int n_restored = 0;
    EXPECT_EQ(test::check_everything(*store, &n_restored), "");
    EXPECT_TRUE(n_restored > 0 || budget < 20'000) << budget;
    EXPECT_EQ(store->statistics().n_dropped_damaged, 0);
    EXPECT_EQ(memory.files.peak_bytes(), peak);
  }
}

TEST(StoreBudgetTest, ARecordThatNeverFitsIsNamedAndCostsNothingElse) {
  MemoryStore memory;
  memory.options.budget_bytes = 20'000;
  const auto store = memory.open();
  put_all(*store, Conversation(1), 20);
  ASSERT_TRUE(
      store->put_checkpoint({.key = {5, 5}, .n_tokens = 1, .tail_tokens = {1}}, std::vector<std::byte>(30'000)));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_FALSE(store->has_checkpoint({5, 5}));
  EXPECT_EQ(test::check_restore(*store, Conversation(1).checkpoint(20)), "");
  const auto notices = store->take_notices();
  ASSERT_THAT(notices, SizeIs(1));
  EXPECT_THAT(notices[0], HasSubstr("does not fit into the disk store's budget of 20000"));
}

TEST(StoreBudgetTest, PagesOfACheckpointToComeAreNotEvictedForIt) {
  MemoryStore memory;
  memory.options.budget_bytes = 40'000;
  const auto store = memory.open();
  for (int i = 0; i < 20; ++i) put_all(*store, Conversation(i), 20);
  memory.clock.advance(10 * kHalfLifeSeconds);
  // Most of the budget in one go, page after page, each on disk before the next is put.
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(test::put_page(*store, Conversation(77).page(i)));
    ASSERT_TRUE(i % 3 != 0 || store->flush().ok());
  }
  ASSERT_TRUE(test::put_checkpoint(*store, Conversation(77).checkpoint(163)));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(test::check_restore(*store, Conversation(77).checkpoint(163)), "");
}

TEST(RateLimiterTest, WaitsUntilWhatWasSpentIsPaid) {
  RateLimiter limiter(1000);
  EXPECT_EQ(limiter.wait_us(5), 0);
  limiter.spend(500, 1'000'000);
  EXPECT_EQ(limiter.wait_us(1'000'000), 500'000);
  EXPECT_EQ(limiter.wait_us(1'400'000), 100'000);
  limiter.spend(100, 1'400'000);  // in a hurry
  EXPECT_EQ(limiter.wait_us(1'500'000), 100'000);
  EXPECT_EQ(limiter.wait_us(9'000'000), 0);
  RateLimiter unlimited(0);
  unlimited.spend(1'000'000, 0);
  EXPECT_EQ(unlimited.wait_us(0), 0);
}

}  // namespace
}  // namespace ds4
