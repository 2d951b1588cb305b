// What a disk store serves when its files are damaged, cut or gone, or when calls fail: what was put, or nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "session/disk_store.h"
#include "session/segment_format.h"
#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;
using test::FileCall;
using test::MemoryStore;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kFirstSegment[] = "dir/kv-00000001.seg";

class StoreDamageTest : public ::testing::Test {
 protected:
  // Two conversations with two pages in common, and blobs.
  void fill(DiskStore& store) {
    for (const int n_tokens : {3, 18, 27}) ASSERT_TRUE(test::put_conversation(store, Conversation(1, 16), n_tokens));
    ASSERT_TRUE(test::put_conversation(store, Conversation(2, 16), 34));
    for (const char* key : {"a", "b"}) ASSERT_TRUE(store.put_blob(key, test::blob_of(key)));
    ASSERT_TRUE(store.flush().ok());
  }
  static constexpr int kCheckpoints = 4;

  // Everything is right or missing; the number of checkpoints that are whole.
  static int restorable(DiskStore& store) {
    int n_restored = 0;
    EXPECT_EQ(test::check_everything(store, &n_restored), "");
    for (const char* key : {"a", "b"}) {
      const auto value = store.find_blob(key);
      EXPECT_EQ(value.value_or(test::blob_of(key)), test::blob_of(key));
    }
    // What could not be read is not claimed any more.
    EXPECT_EQ(std::ssize(store.checkpoints()), n_restored);
    return n_restored;
  }

  MemoryStore memory_;
};

TEST_F(StoreDamageTest, NoDamagedByteIsEverServed) {
  for (const bool sealed : {false, true}) {
    memory_.files.restore({});
    memory_.options.segment_bytes = sealed ? 6000 : 100'000;
    fill(*memory_.open());
    const auto whole = memory_.files.snapshot();
    EXPECT_EQ(whole.size() > 1, sealed);
    int n_lossless = 0;
    for (const auto& [path, bytes] : whole) {
      for (size_t at = 0; at < bytes.size(); at += 7) {  // every byte class; each header has all residues
        auto damaged = bytes;
        damaged[at] ^= static_cast<std::byte>(1 << (at % 8));
        memory_.files.restore(whole);
        memory_.files.set_contents(path, damaged);
        n_lossless += restorable(*memory_.open()) == kCheckpoints ? 1 : 0;
        ASSERT_FALSE(HasFailure()) << path << " byte " << at;
      }
    }
    EXPECT_GT(n_lossless, 0);
  }
}

TEST_F(StoreDamageTest, TheSameWhenTheDamageComesWhileTheStoreIsOpen) {
  memory_.options.segment_bytes = 6000;
  fill(*memory_.open());
  const auto whole = memory_.files.snapshot();
  for (const auto& [path, bytes] : whole) {
    for (size_t at = 0; at < bytes.size(); at += 13) {
      memory_.files.restore(whole);
      const auto store = memory_.open();
      auto damaged = bytes;
      damaged[at] ^= std::byte{0xff};
      memory_.files.set_contents(path, damaged);
      restorable(*store);
      ASSERT_FALSE(HasFailure()) << path << " byte " << at;
    }
  }
}

TEST_F(StoreDamageTest, EverythingBeforeACutStaysAndMoreCanBePut) {
  fill(*memory_.open());
  const auto whole = memory_.files.contents(kFirstSegment);
  int most = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    memory_.files.restore({});
    memory_.files.set_contents(kFirstSegment, {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    const auto store = memory_.open();
    const int n_restored = restorable(*store);
    EXPECT_GE(n_restored, most) << "less than of a shorter file, at " << size;
    most = n_restored;
    if (size % 97 == 0) {
      fill(*store);
      EXPECT_EQ(restorable(*store), kCheckpoints);
    }
    ASSERT_FALSE(HasFailure()) << size;
  }
  EXPECT_EQ(most, kCheckpoints);
}

TEST_F(StoreDamageTest, ADamagedPageTakesWhatDependsOnItAndIsNamedOnce) {
  const auto store = memory_.open();
  fill(*store);
  auto bytes = memory_.files.contents(kFirstSegment);
  // The first record is the small checkpoint, the second the first page, which the three others need.
  const uint64_t page_at = kSegmentHeaderBytes + record_bytes(12, Conversation(1, 16).checkpoint(3).payload_bytes);
  bytes[page_at + payload_offset(32) + 500] ^= std::byte{1};
  memory_.files.set_contents(kFirstSegment, bytes);
  EXPECT_TRUE(store->has_page(Conversation(1, 16).page(0).key));
  EXPECT_EQ(restorable(*store), 1);
  EXPECT_FALSE(store->has_page(Conversation(1, 16).page(0).key));
  EXPECT_FALSE(store->has_page(Conversation(2, 16).page(3).key));
  EXPECT_EQ(store->statistics().n_dropped_damaged, 5 + 3);
  const auto notices = store->take_notices();
  ASSERT_THAT(notices, SizeIs(1));
  EXPECT_THAT(notices[0], HasSubstr("kv-00000001.seg, byte " + std::to_string(page_at)));
  EXPECT_THAT(notices[0], HasSubstr("is dropped with 7 that need it: the checksum of the payload is wrong"));
  EXPECT_THAT(store->take_notices(), IsEmpty());
  // It can be put again.
  fill(*store);
  EXPECT_EQ(restorable(*store), kCheckpoints);
}

TEST_F(StoreDamageTest, FilesThatVanishAreMissed) {
  const auto store = memory_.open();
  fill(*store);
  ASSERT_TRUE(memory_.files.remove(kFirstSegment).ok());
  EXPECT_EQ(restorable(*store), 0);
  EXPECT_FALSE(store->has_page(Conversation(1, 16).page(0).key));
}

TEST_F(StoreDamageTest, AReadErrorDropsTheRecordAndNoOther) {
  const auto store = memory_.open();
  fill(*store);
  const StoredCheckpoint checkpoint = Conversation(1, 16).checkpoint(27);
  std::vector<std::byte> payload(checkpoint.payload_bytes);
  memory_.files.fail(FileCall::kRead, 1, 1);
  EXPECT_EQ(store->read_checkpoint(checkpoint.key, payload).error().code, ErrorCode::kIo);
  EXPECT_EQ(store->read_checkpoint(checkpoint.key, payload).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(restorable(*store), kCheckpoints - 1);
}

TEST_F(StoreDamageTest, AFileThatCannotBeOpenedIsNotDamaged) {
  const auto store = memory_.open();
  fill(*store);
  std::vector<std::byte> payload(test::kPageBytes);
  memory_.files.fail(FileCall::kOpen, 1, 1);
  EXPECT_EQ(store->read_page(Conversation(1, 16).page(0).key, payload).error().code, ErrorCode::kIo);
  EXPECT_EQ(restorable(*store), kCheckpoints);
}

TEST_F(StoreDamageTest, ASegmentWithoutASoundHeaderIsRemovedAndNamed) {
  fill(*memory_.open());
  memory_.files.set_contents("dir/kv-00000005.seg", {});
  memory_.files.set_contents("dir/kv-00000006.seg", std::vector<std::byte>(500));
  memory_.files.set_contents("dir/notes.txt", std::vector<std::byte>(5));
  const auto store = memory_.open();
  EXPECT_THAT(memory_.files.paths(), ElementsAre(kFirstSegment, "dir/notes.txt"));
  EXPECT_THAT(store->take_notices(), SizeIs(2));
  EXPECT_EQ(restorable(*store), kCheckpoints);
}

TEST_F(StoreDamageTest, SegmentsOfAnotherVersionOrUnreadableAreLeftAlone) {
  fill(*memory_.open());
  auto other = memory_.files.contents(kFirstSegment);
  other[8] = std::byte{9};
  memory_.files.set_contents("dir/kv-00000004.seg", other);
  // A copy under another number is not what its header says.
  memory_.files.set_contents("dir/kv-00000003.seg", memory_.files.contents(kFirstSegment));
  const auto store = memory_.open();
  EXPECT_THAT(memory_.files.paths(), SizeIs(3));
  EXPECT_EQ(restorable(*store), kCheckpoints);
  EXPECT_GE(store->statistics().disk_bytes, memory_.files.total_bytes());
}

// Every call of every kind fails once, and then all calls from there on.
TEST_F(StoreDamageTest, AnyCallMayFail) {
  memory_.options.segment_bytes = 5000;
  memory_.options.budget_bytes = 100'000;
  memory_.options.close_ms = 1000;
  for (const FileCall call : {FileCall::kOpen, FileCall::kCreate, FileCall::kRead, FileCall::kWrite,
                              FileCall::kTruncate, FileCall::kSync, FileCall::kRemove}) {
    for (const bool lasting : {false, true}) {
      for (int64_t n = 1; n < 60; ++n) {
        memory_.files.restore({});
        memory_.files.repair();
        fill(*memory_.open());
        memory_.files.fail(call, n, lasting ? INT64_MAX : n);
        if (auto store = memory_.try_open(); store.ok()) {
          for (int i = 3; i < 9; ++i) test::put_conversation(*store.value(), Conversation(i), 30);
          const bool flushed = store.value()->flush().ok();
          EXPECT_EQ(test::check_everything(*store.value()), "");
          // Otherwise the writer thread is trying again meanwhile.
          EXPECT_TRUE(!flushed || store.value()->statistics().disk_bytes >= memory_.files.total_bytes());
          EXPECT_LE(memory_.files.peak_bytes(), memory_.options.budget_bytes);
        }
        const bool reached = memory_.files.n_calls(call) >= n;
        memory_.files.repair();
        const auto store = memory_.open();
        restorable(*store);
        fill(*store);
        EXPECT_EQ(test::check_restore(*store, Conversation(2, 16).checkpoint(34)), "");
        ASSERT_FALSE(HasFailure()) << "call " << static_cast<int>(call) << " number " << n << " lasting " << lasting;
        if (!reached) break;
      }
    }
  }
}

TEST_F(StoreDamageTest, AFullDiskPausesWritingAndIsGivenBackRoom) {
  memory_.options.segment_bytes = 6000;
  const auto store = memory_.open();
  fill(*store);
  memory_.files.set_capacity(memory_.files.total_bytes() + 500);
  ASSERT_TRUE(test::put_conversation(*store, Conversation(5), 20));
  // The writer may have met the full disk and made room before it is asked to flush: either answer is right.
  (void)store->flush();
  EXPECT_GE(store->statistics().n_failed_writes, 1);
  EXPECT_EQ(test::check_everything(*store), "") << "what is queued is served too";
  // Each try evicts enough for what it writes; in the end everything is written.
  for (int i = 0; i < 100 && !store->flush().ok(); ++i) continue;
  EXPECT_EQ(store->statistics().n_queued, 0);
  EXPECT_EQ(test::check_restore(*store, Conversation(5).checkpoint(20)), "");
  EXPECT_EQ(test::check_everything(*store), "");
  const auto notices = store->take_notices();
  ASSERT_GE(notices.size(), 2u);
  EXPECT_THAT(notices.front(), HasSubstr("pauses writing: dir/kv-"));
  EXPECT_THAT(notices.front(), HasSubstr("No space left on device"));
  EXPECT_EQ(notices.back(), "the disk store writes again");
}

TEST_F(StoreDamageTest, ADiskThatStaysFullIsReportedOnce) {
  const auto store = memory_.open();
  fill(*store);
  memory_.files.fail(FileCall::kWrite, 1, INT64_MAX);
  ASSERT_TRUE(test::put_conversation(*store, Conversation(5), 20));
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(store->flush().ok());
  EXPECT_THAT(store->take_notices(), SizeIs(1));
  EXPECT_TRUE(store->statistics().paused);
}

}  // namespace
}  // namespace ds4
