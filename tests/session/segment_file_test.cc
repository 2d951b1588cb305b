#include "session/segment_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;
using test::MemoryFiles;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr uint64_t kSmallPageBytes = 100;

struct Put {
  RecordHeader header;
  std::vector<std::byte> meta;
  std::vector<std::byte> payload;
};

class SegmentFileTest : public ::testing::Test {
 protected:
  SegmentFileTest() {
    const StoredPage page = Conversation(1).page(0);
    put(RecordKind::kPage, page.key, {}, page.tokens, kSmallPageBytes);
    const StoredCheckpoint checkpoint = Conversation(1).checkpoint(11);
    put(RecordKind::kCheckpoint, checkpoint.key, checkpoint.parent, checkpoint.tail_tokens, 77);
    put(RecordKind::kBlob, {7, 7}, {}, {}, 20);
    put(RecordKind::kPage, Conversation(1).page(1).key, page.key, Conversation(1).page(1).tokens, kSmallPageBytes);
  }

  void put(RecordKind kind, const Hash128& key, const Hash128& parent, const std::vector<int32_t>& tokens,
           uint64_t payload_bytes) {
    Put put;
    const auto meta = std::as_bytes(std::span(tokens));
    put.meta.assign(meta.begin(), meta.end());
    put.payload = test::payload_of(key, payload_bytes);
    put.header = {.kind = kind,
                  .meta_bytes = static_cast<uint32_t>(put.meta.size()),
                  .n_tokens = static_cast<int32_t>(tokens.size()),
                  .payload_bytes = payload_bytes,
                  .key = key,
                  .parent = parent,
                  .payload_checksum = checksum_of(put.payload)};
    puts_.push_back(std::move(put));
  }

  void write(bool sealed) {
    auto writer = SegmentWriter::start(files_.create("s").take_value(), {.identity = {3, 4}, .number = 9}).take_value();
    for (const Put& put : puts_) {
      offsets_.push_back(writer.end_bytes());
      EXPECT_EQ(writer.append(put.header, put.meta, put.payload).value(), offsets_.back());
    }
    end_bytes_ = writer.end_bytes();
    const uint64_t sealed_bytes = writer.sealed_bytes();
    if (!sealed) return;
    ASSERT_TRUE(writer.seal().ok());
    EXPECT_EQ(files_.contents("s").size(), sealed_bytes);
  }

  Result<SegmentScan> scan() { return scan_segment(*files_.open_for_reading("s").value()); }

  // The records that can be read back whole, by number; anything else than what was put fails the test.
  std::vector<size_t> readable() {
    std::vector<size_t> found;
    const auto scanned = scan();
    if (!scanned.ok()) return found;
    const auto file = files_.open_for_reading("s").take_value();
    for (const IndexEntry& entry : scanned.value().records) {
      const RecordPlace place{9, entry.header.meta_bytes, entry.offset, entry.header.payload_bytes};
      const auto head = read_record_head(*file, scanned.value().seed, place);
      if (!head.ok()) continue;
      std::vector<std::byte> payload(place.payload_bytes);
      if (!read_record_payload(*file, place, head.value().header, payload).ok()) continue;
      const auto at = std::ranges::find(offsets_, entry.offset) - offsets_.begin();
      const Put& put = puts_.at(static_cast<size_t>(at));
      EXPECT_TRUE(put.payload == payload && put.meta == head.value().meta && put.header.key == entry.header.key &&
                  put.header.parent == entry.header.parent && put.header.kind == entry.header.kind);
      found.push_back(static_cast<size_t>(at));
    }
    return found;
  }

  MemoryFiles files_;
  std::vector<Put> puts_;
  std::vector<uint64_t> offsets_;
  uint64_t end_bytes_ = 0;
};

TEST_F(SegmentFileTest, FindsAllRecordsByWalkingAndThroughTheIndex) {
  for (const bool sealed : {false, true}) {
    files_.restore({});
    offsets_.clear();
    write(sealed);
    const SegmentScan found = scan().take_value();
    EXPECT_EQ(found.sealed, sealed);
    EXPECT_EQ(found.header.number, 9u);
    EXPECT_EQ(found.header.identity, (Hash128{3, 4}));
    EXPECT_EQ(found.end_bytes, sealed ? files_.contents("s").size() : end_bytes_);
    EXPECT_THAT(found.problems, IsEmpty());
    EXPECT_EQ(readable(), (std::vector<size_t>{0, 1, 2, 3}));
    EXPECT_EQ(found.records[1].tail_tokens, Conversation(1).checkpoint(11).tail_tokens);
  }
}

// A record costs nothing but itself, wherever it is damaged: the walk finds the next one.
TEST_F(SegmentFileTest, ADamagedByteOfAnUnsealedSegmentCostsOneRecord) {
  write(false);
  const auto whole = files_.contents("s");
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0, 7}) {
      auto damaged = whole;
      damaged[at] ^= static_cast<std::byte>(1 << bit);
      files_.set_contents("s", damaged);
      const size_t n = readable().size();
      if (at < kSegmentHeaderBytes) {
        EXPECT_EQ(n, 0u) << at;
        EXPECT_FALSE(scan().ok()) << at;
      } else {
        EXPECT_GE(n, puts_.size() - 1) << at;
      }
    }
  }
}

TEST_F(SegmentFileTest, ADamagedByteOfASealedSegmentCostsAtMostOneRecord) {
  write(true);
  const auto whole = files_.contents("s");
  for (size_t at = kSegmentHeaderBytes; at < whole.size(); ++at) {
    auto damaged = whole;
    damaged[at] ^= std::byte{0x10};
    files_.set_contents("s", damaged);
    EXPECT_GE(readable().size(), at < end_bytes_ ? puts_.size() - 1 : puts_.size()) << at;
  }
}

TEST_F(SegmentFileTest, EverythingBeforeTheCutStays) {
  for (const bool sealed : {false, true}) {
    files_.restore({});
    offsets_.clear();
    write(sealed);
    const auto whole = files_.contents("s");
    for (size_t size = 0; size < whole.size(); ++size) {
      files_.set_contents("s", {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
      const auto complete = [&](size_t i) { return size >= (i + 1 < offsets_.size() ? offsets_[i + 1] : end_bytes_); };
      std::vector<size_t> expected;
      for (size_t i = 0; i < puts_.size() && complete(i); ++i) expected.push_back(i);
      ASSERT_EQ(readable(), expected) << size;
      if (size >= kSegmentHeaderBytes) {
        EXPECT_LE(scan().value().end_bytes, size);
      } else {
        EXPECT_EQ(scan().error().code, ErrorCode::kCorrupt);
      }
    }
  }
}

TEST_F(SegmentFileTest, ResumingCutsOffWhatWasTorn) {
  write(false);
  auto bytes = files_.contents("s");
  bytes.resize(bytes.size() - 65);
  files_.set_contents("s", bytes);
  const SegmentScan torn = scan().take_value();
  EXPECT_EQ(torn.records.size(), 3u);
  ASSERT_EQ(torn.problems.size(), 1u);
  EXPECT_THAT(torn.problems[0], HasSubstr("is cut off"));
  auto writer = SegmentWriter::resume(files_.open_for_writing("s").take_value(), torn).take_value();
  EXPECT_EQ(files_.contents("s").size(), offsets_[3]);
  ASSERT_TRUE(writer.append(puts_[3].header, puts_[3].meta, puts_[3].payload).ok());
  EXPECT_EQ(readable(), (std::vector<size_t>{0, 1, 2, 3}));
  ASSERT_TRUE(writer.seal().ok());
  EXPECT_TRUE(scan().value().sealed);
  EXPECT_EQ(readable(), (std::vector<size_t>{0, 1, 2, 3}));
}

TEST_F(SegmentFileTest, AFailedAppendLeavesTheFileAsItWas) {
  write(false);
  auto writer = SegmentWriter::resume(files_.open_for_writing("s").take_value(), scan().value()).take_value();
  const auto whole = files_.contents("s");
  for (int call = 1; call <= 3; ++call) {
    files_.fail(test::FileCall::kWrite, call, call);
    EXPECT_FALSE(writer.append(puts_[0].header, puts_[0].meta, puts_[0].payload).ok());
    EXPECT_EQ(files_.contents("s"), whole);
    EXPECT_FALSE(writer.damaged());
  }
  files_.fail(test::FileCall::kWrite, 1, 1);
  files_.fail(test::FileCall::kTruncate, 1, 1);
  EXPECT_FALSE(writer.append(puts_[0].header, puts_[0].meta, puts_[0].payload).ok());
  EXPECT_TRUE(writer.damaged());
  EXPECT_GE(writer.size_limit_bytes(), files_.contents("s").size());
  EXPECT_EQ(readable().size(), puts_.size());
}

// Bytes of another place, segment or identity are no record, though their own checksums are right.
TEST_F(SegmentFileTest, ARecordCountsOnlyWhereItWasWritten) {
  write(false);
  auto bytes = files_.contents("s");
  const auto first = bytes.begin() + static_cast<std::ptrdiff_t>(offsets_[0]);
  const auto second = bytes.begin() + static_cast<std::ptrdiff_t>(offsets_[1]);
  const auto fourth = bytes.begin() + static_cast<std::ptrdiff_t>(offsets_[3]);
  ASSERT_EQ(end_bytes_ - offsets_[3], offsets_[1] - offsets_[0]);
  std::copy(first, second, fourth);
  files_.set_contents("s", bytes);
  EXPECT_EQ(readable(), (std::vector<size_t>{0, 1, 2}));

  const auto other = encode_segment_header({.identity = {3, 5}, .number = 9});
  std::ranges::copy(other, bytes.begin());
  files_.set_contents("s", bytes);
  EXPECT_EQ(readable(), std::vector<size_t>());
}

TEST(SegmentFormatTest, NamesAndNumbers) {
  EXPECT_EQ(segment_name(7), "kv-00000007.seg");
  EXPECT_EQ(segment_number("kv-00000007.seg"), 7u);
  EXPECT_EQ(segment_number(segment_name(4'000'000'000)), 4'000'000'000u);
  for (const char* name : {"kv-.seg", "kv-7.sege", "kv-99999999999.seg", "lock", "kv--0000001.seg", "kv-seg"}) {
    EXPECT_EQ(segment_number(name), 0u) << name;
  }
}

TEST(SegmentFormatTest, AnotherVersionIsNotDamage) {
  auto bytes = encode_segment_header({.number = 1});
  bytes[8] = std::byte{2};
  EXPECT_EQ(decode_segment_header(bytes).error().code, ErrorCode::kUnsupported);
  bytes[0] = std::byte{0};
  EXPECT_EQ(decode_segment_header(bytes).error().code, ErrorCode::kCorrupt);
}

TEST(SegmentFormatTest, LengthsMustFitTheKind) {
  const auto decoded = [](const RecordHeader& header) {
    return decode_record_header(encode_record_header(header, 5, 64), 5, 64).ok();
  };
  EXPECT_TRUE(decoded({.kind = RecordKind::kPage, .meta_bytes = 8, .n_tokens = 2}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kPage, .meta_bytes = 8, .n_tokens = 3}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kCheckpoint, .meta_bytes = 6, .n_tokens = 3}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kCheckpoint, .meta_bytes = 8, .n_tokens = 1}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kBlob, .payload_bytes = kMaxPayloadBytes + 1}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kBlob, .meta_bytes = kMaxMetaBytes + 1}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kUsage, .payload_bytes = 33}));
  EXPECT_FALSE(decoded({.kind = RecordKind::kIndex, .meta_bytes = 4}));
  EXPECT_FALSE(decoded({.kind = static_cast<RecordKind>(9)}));
}

}  // namespace
}  // namespace ds4
