#include "session/disk_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;
using test::kPageBytes;
using test::MemoryStore;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(DiskStoreTest, ReturnsWhatWasPutBeforeAndAfterItIsWrittenAndReopened) {
  MemoryStore memory;
  const Conversation one(1);
  const auto put = [&](DiskStore& store) {
    for (const int n_tokens : {5, 8, 30, 61}) EXPECT_TRUE(test::put_conversation(store, one, n_tokens));
    EXPECT_TRUE(store.put_blob("call_1", "text"));
  };
  const auto check = [&](DiskStore& store) {
    int n_restored = 0;
    EXPECT_EQ(test::check_everything(store, &n_restored), "");
    EXPECT_EQ(n_restored, 4);
    EXPECT_EQ(store.find_blob("call_1"), "text");
    EXPECT_EQ(store.find_blob("call_2"), std::nullopt);
    EXPECT_TRUE(store.has_page(one.page(6).key));
    EXPECT_FALSE(store.has_page(one.page(7).key));
    EXPECT_TRUE(store.has_checkpoint(one.checkpoint(30).key));
    EXPECT_FALSE(store.has_checkpoint(one.checkpoint(31).key));
  };
  {
    const auto store = memory.open();
    put(*store);
    check(*store);
    ASSERT_TRUE(store->flush().ok());
    check(*store);
    EXPECT_EQ(store->statistics().n_pages, 7);
    EXPECT_EQ(store->statistics().n_checkpoints, 4);
    EXPECT_EQ(store->statistics().n_blobs, 1);
    EXPECT_THAT(store->take_notices(), IsEmpty());
  }
  const auto store = memory.open();
  check(*store);
  EXPECT_THAT(store->take_notices(), IsEmpty());
}

TEST(DiskStoreTest, TheDestructorWritesWhatIsQueued) {
  MemoryStore memory;
  EXPECT_TRUE(test::put_conversation(*memory.open(), Conversation(1), 50));
  EXPECT_EQ(test::check_restore(*memory.open(), Conversation(1).checkpoint(50)), "");
}

TEST(DiskStoreTest, WritesNothingTwice) {
  MemoryStore memory;
  const auto store = memory.open();
  ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 30));
  ASSERT_TRUE(store->put_blob("a", "1"));
  ASSERT_TRUE(store->flush().ok());
  const uint64_t written = store->statistics().written_bytes;
  EXPECT_TRUE(test::put_conversation(*store, Conversation(1), 30));
  EXPECT_TRUE(store->put_blob("a", "1"));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->statistics().written_bytes, written);
}

TEST(DiskStoreTest, SharedPagesAreWrittenOnce) {
  MemoryStore memory;
  const auto store = memory.open();
  ASSERT_TRUE(test::put_conversation(*store, Conversation(1, 24), 40));
  ASSERT_TRUE(test::put_conversation(*store, Conversation(2, 24), 40));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->statistics().n_pages, 3 + 2 + 2);
  EXPECT_EQ(test::check_restore(*store, Conversation(2, 24).checkpoint(40)), "");
}

TEST(DiskStoreTest, ChainsLeadFromAPageToTheFirst) {
  MemoryStore memory;
  const auto store = memory.open();
  const std::vector<Hash128> expected{Conversation(1).page(2).key, Conversation(1).page(1).key,
                                      Conversation(1).page(0).key};
  ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 16));
  ASSERT_TRUE(store->flush().ok());
  ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 24));
  EXPECT_EQ(store->page_chain(expected[0]), expected);
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->page_chain(expected[0]), expected);
  EXPECT_TRUE(store->page_chain(Conversation(2).page(1).key).empty());
  EXPECT_TRUE(store->page_chain({}).empty());
}

TEST(DiskStoreTest, WhatHasNoParentIsNotKept) {
  MemoryStore memory;
  const auto store = memory.open();
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(1)));
  EXPECT_TRUE(test::put_checkpoint(*store, Conversation(1).checkpoint(9)));
  EXPECT_FALSE(store->has_page(Conversation(1).page(1).key));
  EXPECT_FALSE(store->has_checkpoint(Conversation(1).checkpoint(9).key));
  EXPECT_EQ(store->statistics().n_dropped_queued, 2);
}

TEST(DiskStoreTest, TheLastBlobOfAKeyCounts) {
  MemoryStore memory;
  {
    const auto store = memory.open();
    EXPECT_TRUE(store->put_blob("a", "1"));
    EXPECT_TRUE(store->put_blob("a", "2"));
    EXPECT_EQ(store->find_blob("a"), "2");
    ASSERT_TRUE(store->flush().ok());
    EXPECT_TRUE(store->put_blob("a", std::string(100, '3')));
    EXPECT_TRUE(store->put_blob("", ""));
    EXPECT_EQ(store->find_blob("a"), std::string(100, '3'));
    ASSERT_TRUE(store->flush().ok());
    EXPECT_EQ(store->statistics().n_blobs, 2);
  }
  EXPECT_EQ(memory.open()->find_blob("a"), std::string(100, '3'));
  EXPECT_EQ(memory.open()->find_blob(""), "");
}

TEST(DiskStoreTest, OldBlobsMakeRoomForYoungOnes) {
  MemoryStore memory;
  const std::string value(5000, 'x');
  {
    const auto store = memory.open();
    for (int i = 0; i < 30; ++i) EXPECT_TRUE(store->put_blob("key" + std::to_string(i), value));
    ASSERT_TRUE(store->flush().ok());
    EXPECT_EQ(store->statistics().n_blobs, 12);  // of 5,248 bytes, in a 16th of 1 MiB
    EXPECT_EQ(store->find_blob("key17"), std::nullopt);
    EXPECT_EQ(store->find_blob("key18"), value);
  }
  EXPECT_EQ(memory.open()->find_blob("key29"), value);
}

TEST(DiskStoreTest, AFullQueueRefusesUntilThereIsRoom) {
  MemoryStore memory;
  memory.options.queue_bytes = 3000;
  memory.options.retry_ms = 1'000'000;
  const auto store = memory.open();
  memory.files.fail(test::FileCall::kWrite, 1, INT64_MAX);
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(0)));
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(1)));
  EXPECT_FALSE(test::put_page(*store, Conversation(1).page(2)));
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(1))) << "what is queued needs no room";
  EXPECT_FALSE(store->flush().ok());
  memory.files.repair();
  ASSERT_TRUE(store->flush().ok());
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(2)));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->statistics().n_pages, 3);
  EXPECT_EQ(store->statistics().n_queued, 0);
}

// At this rate writing would take hours.
TEST(DiskStoreTest, FlushingAndClosingDoNotWaitForTheRate) {
  MemoryStore memory;
  memory.options.write_bytes_per_s = 1;
  {
    const auto store = memory.open();
    ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 20));
    ASSERT_TRUE(store->flush().ok());
    EXPECT_EQ(store->statistics().n_checkpoints, 1);
    ASSERT_TRUE(test::put_conversation(*store, Conversation(2), 20));
  }
  EXPECT_EQ(test::check_restore(*memory.open(), Conversation(2).checkpoint(20)), "");
}

TEST(DiskStoreTest, ClosingEndsThoughNothingCanBeWritten) {
  MemoryStore memory;
  memory.options.retry_ms = 1'000'000;
  {
    const auto store = memory.open();
    memory.files.fail(test::FileCall::kWrite, 1, INT64_MAX);
    ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 20));
  }
  memory.files.repair();
  EXPECT_THAT(memory.open()->checkpoints(), IsEmpty());
  EXPECT_THAT(memory.files.paths(), IsEmpty());
}

TEST(DiskStoreTest, OneRecordMayAlwaysWait) {
  MemoryStore memory;
  memory.options.queue_bytes = 1;
  const auto store = memory.open();
  EXPECT_TRUE(test::put_page(*store, Conversation(1).page(0)));
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->statistics().n_pages, 1);
}

TEST(DiskStoreTest, ASpanOfAnotherSizeIsRefused) {
  MemoryStore memory;
  const auto store = memory.open();
  const StoredCheckpoint checkpoint = Conversation(1).checkpoint(3);
  ASSERT_TRUE(test::put_checkpoint(*store, checkpoint));
  std::vector<std::byte> payload(checkpoint.payload_bytes + 1);
  EXPECT_EQ(store->read_checkpoint(checkpoint.key, payload).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(store->read_page(checkpoint.key, payload).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(store->checkpoints().front().payload_bytes, checkpoint.payload_bytes);
}

TEST(DiskStoreTest, OtherIdentitiesAndPageSizesAreNotRead) {
  MemoryStore memory;
  ASSERT_TRUE(test::put_conversation(*memory.open(), Conversation(1), 20));
  const uint64_t bytes = memory.files.total_bytes();
  for (const bool identity : {true, false}) {
    DiskStoreOptions other = memory.options;
    if (identity) other.identity = {1, 3};
    if (!identity) other.page_bytes = kPageBytes + 1;
    const auto store = DiskStore::open(other, {&memory.files, &memory.clock}).take_value();
    EXPECT_THAT(store->checkpoints(), IsEmpty());
    EXPECT_FALSE(store->has_page(Conversation(1).page(0).key));
    EXPECT_EQ(store->statistics().disk_bytes, bytes) << "but they count";
    EXPECT_THAT(store->take_notices(), IsEmpty());
  }
  EXPECT_EQ(test::check_restore(*memory.open(), Conversation(1).checkpoint(20)), "");
}

TEST(DiskStoreTest, OneStorePerDirectory) {
  MemoryStore memory;
  const auto store = memory.open();
  const auto second = memory.try_open();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kBusy);
  EXPECT_THAT(second.error().message, HasSubstr("cannot use the KV directory dir"));
}

TEST(DiskStoreTest, RestartsGoOnInTheSameSegment) {
  MemoryStore memory;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(test::put_conversation(*memory.open(), Conversation(i), 10));
  EXPECT_THAT(memory.files.paths(), ElementsAre("dir/kv-00000001.seg"));
  int n_restored = 0;
  EXPECT_EQ(test::check_everything(*memory.open(), &n_restored), "");
  EXPECT_EQ(n_restored, 5);
}

TEST(DiskStoreTest, SealedSegmentsAreReadThroughTheirIndex) {
  MemoryStore memory;
  memory.options.segment_bytes = 8000;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(test::put_conversation(*memory.open(), Conversation(i), 50));
  EXPECT_GT(memory.files.paths().size(), 3u);
  memory.files.fail(test::FileCall::kRead, INT64_MAX, INT64_MAX);
  const auto store = memory.open();
  // A segment header, trailer, index header and index each; the last segment is walked.
  EXPECT_LT(memory.files.n_calls(test::FileCall::kRead), 5 * std::ssize(memory.files.paths()) + 20);
  int n_restored = 0;
  EXPECT_EQ(test::check_everything(*store, &n_restored), "");
  EXPECT_EQ(n_restored, 3);
}

TEST(DiskStoreTest, PagesMayBeReadByManyThreadsWhileOthersAreWritten) {
  MemoryStore memory;
  memory.options.segment_bytes = 8000;
  memory.options.budget_bytes = 200'000;
  const auto store = memory.open();
  ASSERT_TRUE(test::put_conversation(*store, Conversation(0), 100));
  {
    std::vector<std::jthread> readers;
    for (int i = 0; i < 3; ++i) {
      readers.emplace_back([&store] {
        for (int round = 0; round < 20; ++round) {
          const std::string problem = test::check_restore(*store, Conversation(0).checkpoint(100));
          EXPECT_TRUE(problem.empty() || problem == "missing") << problem;
        }
      });
    }
    for (int i = 1; i < 30; ++i) {
      EXPECT_TRUE(test::put_conversation(*store, Conversation(i), 100));
      store->touch(Conversation(0).checkpoint(100).key);
    }
  }
  ASSERT_TRUE(store->flush().ok());
  EXPECT_EQ(store->statistics().n_dropped_damaged, 0);
  EXPECT_GT(store->statistics().n_evicted_checkpoints, 0);
}

TEST(DiskStoreTest, OptionsThatMakeNoSenseAreNamed) {
  MemoryStore memory;
  memory.options.budget_bytes = 100;
  EXPECT_EQ(memory.try_open().error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(memory.try_open().error().message, HasSubstr("budget 100 (at least 4096 bytes)"));
}

class DiskStoreOnDiskTest : public ::testing::Test {
 protected:
  DiskStoreOnDiskTest() {
    std::string pattern = ::testing::TempDir() + "ds4_disk_store_test_XXXXXX";
    directory_ = mkdtemp(pattern.data());
    options_ = MemoryStore().options;
    options_.directory = directory_ + "/a/b";
  }
  ~DiskStoreOnDiskTest() override { std::filesystem::remove_all(directory_); }

  std::string directory_;
  DiskStoreOptions options_;
};

TEST_F(DiskStoreOnDiskTest, CreatesPrivateFilesAndDirectories) {
  using std::filesystem::perms;
  {
    const auto store = DiskStore::open(options_).take_value();
    ASSERT_TRUE(test::put_conversation(*store, Conversation(1), 20));
  }
  const auto permissions = [](const std::string& path) { return std::filesystem::status(path).permissions(); };
  EXPECT_EQ(permissions(options_.directory), perms(0700));
  EXPECT_EQ(permissions(options_.directory + "/kv-00000001.seg"), perms(0600));
  EXPECT_EQ(permissions(options_.directory + "/lock"), perms(0600));
  const auto store = DiskStore::open(options_).take_value();
  EXPECT_EQ(test::check_restore(*store, Conversation(1).checkpoint(20)), "");
  EXPECT_EQ(DiskStore::open(options_).error().code, ErrorCode::kBusy);
}

TEST_F(DiskStoreOnDiskTest, ADirectoryThatCannotBeUsedIsNamed) {
  ASSERT_TRUE(DiskStore::open(options_).ok());
  options_.directory += "/lock/c";
  EXPECT_THAT(DiskStore::open(options_).error().message, HasSubstr("exists and is not a directory"));
  options_.directory = "/proc/none";
  EXPECT_THAT(DiskStore::open(options_).error().message, HasSubstr("/proc/none: cannot create the directory"));
}

}  // namespace
}  // namespace ds4
