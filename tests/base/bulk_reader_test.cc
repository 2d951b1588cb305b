#include "base/bulk_reader.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "base/file.h"
#include "support/temporary_path.h"

namespace ds4 {
namespace {

struct AlignedBuffer {
  explicit AlignedBuffer(uint64_t part_bytes)
      : size_bytes(BulkReader::buffer_bytes(part_bytes)),
        data(static_cast<std::byte*>(std::aligned_alloc(BulkReader::kAlignmentBytes, size_bytes))) {}
  ~AlignedBuffer() { std::free(data); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  std::span<std::byte> span() const { return {data, size_bytes}; }
  uint64_t size_bytes;
  std::byte* data;
};

class BulkReaderTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::byte>(i * 7 + i / 256);
    path_ = test::temporary_path("bulk");
    ASSERT_TRUE(atomic_write(path_, bytes_).ok());
  }
  void TearDown() override { std::filesystem::remove(path_); }

  std::string path_;
  std::vector<std::byte> bytes_ = std::vector<std::byte>(3 * 4096 + 1234);
};

TEST_P(BulkReaderTest, PartsAnywhereAreTheFilesBytes) {
  const auto reader = BulkReader::open(path_, GetParam()).take_value();
  for (const uint64_t offset : {0, 1, 32, 4095, 4096, 4097, 8192, 13000}) {
    for (const uint64_t n : {1, 31, 511, 4096, 9000}) {
      if (offset + n > bytes_.size()) continue;
      const AlignedBuffer buffer(n);
      const auto read = reader->read(offset, n, buffer.span());
      ASSERT_TRUE(read.ok()) << read.error().message;
      ASSERT_EQ(read.value().size(), n);
      EXPECT_EQ(std::memcmp(read.value().data(), bytes_.data() + offset, n), 0) << offset << " " << n;
    }
  }
  const AlignedBuffer buffer(1234);
  EXPECT_TRUE(reader->read(bytes_.size() - 1234, 1234, buffer.span()).ok());
}

TEST_P(BulkReaderTest, AShortFileIsNamedWithPlaceExpectedAndFound) {
  const auto reader = BulkReader::open(path_, GetParam()).take_value();
  const AlignedBuffer buffer(5000);
  const auto read = reader->read(bytes_.size() - 1000, 5000, buffer.span());
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
  const std::string& message = read.error().message;
  EXPECT_NE(message.find(path_), std::string::npos) << message;
  EXPECT_NE(message.find("expected 5000 bytes at " + std::to_string(bytes_.size() - 1000)), std::string::npos)
      << message;
  EXPECT_NE(message.find("found 1000"), std::string::npos) << message;
  EXPECT_NE(reader->read(bytes_.size() + 9999, 10, buffer.span()).error().message.find("found 0"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Modes, BulkReaderTest, ::testing::Bool(),
                         [](const auto& parameter) { return parameter.param ? "Direct" : "Buffered"; });

TEST(BulkReaderOpenTest, NamesAFileThatIsNotThere) {
  const auto reader = BulkReader::open("/nowhere/x.gguf", true);
  ASSERT_FALSE(reader.ok());
  EXPECT_NE(reader.error().message.find("/nowhere/x.gguf"), std::string::npos);
}

TEST(BulkReaderCacheTest, AFileThatWasJustWrittenIsCached) {
  const std::string path = test::temporary_path("cached");
  ASSERT_TRUE(atomic_write(path, std::vector<std::byte>(1 << 20)).ok());
  EXPECT_TRUE(is_mostly_cached(MappedFile::open(path).take_value()->bytes()));
  EXPECT_FALSE(is_mostly_cached({}));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ds4
