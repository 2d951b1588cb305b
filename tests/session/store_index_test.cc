#include "session/store_index.h"

#include <gtest/gtest.h>

#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;

RecordHeader page_header(const Hash128& key, const Hash128& parent) {
  return {.kind = RecordKind::kPage, .payload_bytes = 100, .key = key, .parent = parent};
}
RecordHeader checkpoint_header(const Hash128& key, const Hash128& parent) {
  return {.kind = RecordKind::kCheckpoint, .payload_bytes = 100, .key = key, .parent = parent};
}

class StoreIndexTest : public ::testing::Test {
 protected:
  StoreIndexTest() {
    for (const uint32_t number : {1, 2}) index_.add_segment(number, {.ours = true, .file_bytes = 5000});
  }
  void load(const RecordHeader& header, uint64_t offset, uint32_t segment = 1) {
    index_.load({.offset = offset, .header = header, .tail_tokens = {}}, segment);
  }

  StoreIndex index_;
};

TEST_F(StoreIndexTest, LoadsInAnyOrderAndKeepsCompleteChains) {
  load(checkpoint_header({9, 9}, {2, 0}), 64);
  load(page_header({2, 0}, {1, 0}), 640);
  load(page_header({1, 0}, {}), 64, 2);
  load(page_header({4, 0}, {3, 0}), 1280);
  load(checkpoint_header({8, 8}, {4, 0}), 2560);
  const auto removed = index_.settle();
  EXPECT_EQ(removed.n_pages, 1);
  EXPECT_EQ(removed.n_checkpoints, 1);
  EXPECT_NE(index_.find_checkpoint({9, 9}), nullptr);
  EXPECT_EQ(index_.find_page({4, 0}), nullptr);
  EXPECT_EQ(index_.find_page({1, 0})->n_children, 1);
}

// Keys are hashes of what came before, so a circle is a forgery; it must not be followed for ever.
TEST_F(StoreIndexTest, CirclesOfPagesAreNoChains) {
  load(page_header({1, 0}, {2, 0}), 64);
  load(page_header({2, 0}, {1, 0}), 640);
  load(page_header({3, 0}, {3, 0}), 1280);
  load(page_header({4, 0}, {3, 0}), 1920);
  EXPECT_EQ(index_.settle().n_pages, 4);
  EXPECT_EQ(index_.live_bytes(), 0u);
}

TEST_F(StoreIndexTest, OfTwoRecordsWithOneKeyTheLaterCounts) {
  load(page_header({1, 0}, {}), 64, 2);
  load(page_header({1, 0}, {}), 640, 1);
  index_.settle();
  EXPECT_EQ(index_.find_page({1, 0})->place.segment, 2u);
  EXPECT_EQ(index_.segment(1).live_bytes, 0u);
  EXPECT_EQ(index_.live_bytes(), index_.segment(2).live_bytes);
}

TEST_F(StoreIndexTest, DroppingAPageTakesItsDescendantsOnly) {
  for (uint64_t i = 1; i <= 4; ++i) load(page_header({i, 0}, {i - 1, 0}), 64 * 10 * i);
  load(page_header({7, 0}, {1, 0}), 6400);
  load(checkpoint_header({8, 8}, {4, 0}), 7040);
  load(checkpoint_header({9, 9}, {7, 0}), 7680);
  index_.settle();
  const StoreIndex::Record second{RecordKind::kPage, {2, 0}, index_.find_page({2, 0})->place};
  const auto removed = index_.drop(second);
  EXPECT_EQ(removed.n_pages, 3);
  EXPECT_EQ(removed.n_checkpoints, 1);
  EXPECT_NE(index_.find_checkpoint({9, 9}), nullptr);
  EXPECT_EQ(index_.find_page({1, 0})->n_children, 1);
  EXPECT_EQ(index_.drop(second).n_pages, 0);
}

TEST_F(StoreIndexTest, ARemovedSegmentTakesWhatDependsOnIt) {
  load(page_header({1, 0}, {}), 64, 1);
  load(page_header({2, 0}, {1, 0}), 64, 2);
  load(checkpoint_header({8, 8}, {2, 0}), 640, 2);
  load(checkpoint_header({9, 9}, {}), 1280, 2);
  index_.settle();
  const auto removed = index_.remove_segment(1);
  EXPECT_EQ(removed.n_pages, 2);
  EXPECT_EQ(removed.n_checkpoints, 1);
  EXPECT_NE(index_.find_checkpoint({9, 9}), nullptr);
  EXPECT_EQ(index_.disk_bytes(), 5000u);
}

TEST_F(StoreIndexTest, UsageIsKeptWithTheSegmentThatHoldsIt) {
  load(checkpoint_header({9, 9}, {}), 64, 1);
  index_.settle();
  index_.load_usage({{9, 9}, 77, 3.5}, 2);
  EXPECT_EQ(index_.find_checkpoint({9, 9})->used_s, 77);
  EXPECT_TRUE(index_.changed_usage().empty());
  index_.remove_segment(2);
  ASSERT_EQ(index_.changed_usage().size(), 1u) << "to be written again";
  EXPECT_EQ(index_.changed_usage()[0].hits, 3.5);
  index_.usage_written(index_.changed_usage(), 1);
  EXPECT_TRUE(index_.changed_usage().empty());
}

}  // namespace
}  // namespace ds4
