#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace ds4 {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    std::string pattern = ::testing::TempDir() + "ds4_file_test_XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~FileTest() override { std::filesystem::remove_all(directory_); }

  std::string path(std::string_view name) const { return directory_ + "/" + std::string(name); }
  size_t n_files() const {
    const std::filesystem::directory_iterator files(directory_);
    return static_cast<size_t>(std::distance(begin(files), end(files)));
  }

  std::string directory_;
};

TEST_F(FileTest, WritesAndReadsAtPositions) {
  File file = File::create_new(path("a")).take_value();
  ASSERT_TRUE(file.write_at(4, bytes_of("efgh")).ok());
  ASSERT_TRUE(file.write_at(0, bytes_of("abcd")).ok());
  EXPECT_EQ(file.size().value(), 8u);
  std::array<std::byte, 4> out{};
  ASSERT_TRUE(file.read_at(2, out).ok());
  EXPECT_EQ(out[0], std::byte{'c'});
  EXPECT_EQ(out[3], std::byte{'f'});
  ASSERT_TRUE(file.truncate(3).ok());
  ASSERT_TRUE(file.sync().ok());
  ASSERT_TRUE(file.close().ok());
  EXPECT_EQ(read_file(path("a"), 100).value(), "abc");
}

TEST_F(FileTest, ErrorsNameThePathAndTheReason) {
  const auto missing = File::open_for_reading(path("none"));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, AllOf(HasSubstr(path("none")), HasSubstr("No such file or directory")));

  ASSERT_TRUE(atomic_write(path("a"), bytes_of("abc")).ok());
  const auto existing = File::create_new(path("a"));
  ASSERT_FALSE(existing.ok());
  EXPECT_EQ(existing.error().code, ErrorCode::kInvalidArgument);

  File file = File::open_for_reading(path("a")).take_value();
  std::array<std::byte, 4> out{};
  const auto short_read = file.read_at(0, out);
  ASSERT_FALSE(short_read.ok());
  EXPECT_THAT(short_read.error().message, HasSubstr("ends at byte 3, 1 more were expected"));
  EXPECT_FALSE(file.write_at(0, bytes_of("x")).ok());
}

TEST_F(FileTest, PrivateFilesAreForTheirOwner) {
  ASSERT_TRUE(File::create_private(path("a")).ok());
  EXPECT_EQ(std::filesystem::status(path("a")).permissions(), std::filesystem::perms(0600));
  EXPECT_EQ(File::create_private(path("a")).error().code, ErrorCode::kInvalidArgument);
}

TEST_F(FileTest, LockIsHeldUntilTheFileIsClosed) {
  {
    File first = File::open_for_writing(path("a")).take_value();
    ASSERT_TRUE(first.lock().ok());
    File second = File::open_for_writing(path("a")).take_value();
    EXPECT_EQ(second.lock().error().code, ErrorCode::kBusy);
  }
  EXPECT_TRUE(File::open_for_writing(path("a")).take_value().lock().ok());
}

TEST_F(FileTest, MovedFilesKeepOneOwner) {
  ASSERT_TRUE(atomic_write(path("a"), bytes_of("abc")).ok());
  File first = File::open_for_reading(path("a")).take_value();
  File second = std::move(first);
  std::array<std::byte, 3> out{};
  EXPECT_TRUE(second.read_at(0, out).ok());
}

TEST_F(FileTest, MappedFileShowsTheBytes) {
  ASSERT_TRUE(atomic_write(path("a"), bytes_of("hello")).ok());
  const auto mapped = MappedFile::open(path("a")).take_value();
  EXPECT_EQ(mapped->size_bytes(), 5u);
  EXPECT_EQ(mapped->bytes()[4], std::byte{'o'});
  ASSERT_TRUE(atomic_write(path("empty"), {}).ok());
  EXPECT_EQ(MappedFile::open(path("empty")).take_value()->size_bytes(), 0u);
}

TEST_F(FileTest, MappingWhatIsNoRegularFileIsRefusedWithoutWaiting) {
  EXPECT_THAT(MappedFile::open(directory_).error().message, HasSubstr("not a regular file"));
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::open(path("pipe")).error().message, HasSubstr("not a regular file"));
  EXPECT_EQ(MappedFile::open(path("none")).error().code, ErrorCode::kNotFound);
}

TEST_F(FileTest, AtomicWriterReplacesOnlyAtCommit) {
  ASSERT_TRUE(atomic_write(path("a"), bytes_of("old")).ok());
  {
    AtomicFileWriter writer = AtomicFileWriter::create(path("a")).take_value();
    ASSERT_TRUE(writer.append(bytes_of("new ")).ok());
    ASSERT_TRUE(writer.append(bytes_of("text")).ok());
    EXPECT_EQ(writer.size_bytes(), 8u);
    EXPECT_EQ(read_file(path("a"), 100).value(), "old");
    ASSERT_TRUE(writer.commit().ok());
  }
  EXPECT_EQ(read_file(path("a"), 100).value(), "new text");
  EXPECT_EQ(n_files(), 1u);
}

TEST_F(FileTest, AbandonedAtomicWriterLeavesNothing) {
  {
    AtomicFileWriter writer = AtomicFileWriter::create(path("a")).take_value();
    ASSERT_TRUE(writer.append(bytes_of("x")).ok());
    const AtomicFileWriter moved = std::move(writer);
    EXPECT_EQ(n_files(), 1u);
  }
  EXPECT_EQ(n_files(), 0u);
}

TEST_F(FileTest, TwoWritersOfOneTargetDoNotDisturbEachOther) {
  AtomicFileWriter first = AtomicFileWriter::create(path("a")).take_value();
  AtomicFileWriter second = AtomicFileWriter::create(path("a")).take_value();
  ASSERT_TRUE(first.append(bytes_of("first")).ok());
  ASSERT_TRUE(second.append(bytes_of("second")).ok());
  ASSERT_TRUE(first.commit().ok());
  ASSERT_TRUE(second.commit().ok());
  EXPECT_EQ(read_file(path("a"), 100).value(), "second");
}

TEST_F(FileTest, AtomicWriteFollowsLinksAndRefusesWhatIsNoFile) {
  ASSERT_TRUE(atomic_write(path("a"), bytes_of("old")).ok());
  std::filesystem::create_symlink(path("a"), path("link"));
  ASSERT_TRUE(atomic_write(path("link"), bytes_of("new")).ok());
  EXPECT_EQ(read_file(path("a"), 100).value(), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(path("link")));
  EXPECT_THAT(atomic_write(directory_, {}).error().message, HasSubstr("not a regular file"));
  EXPECT_EQ(atomic_write(path("no/such/a"), {}).error().code, ErrorCode::kNotFound);
}

TEST_F(FileTest, ReadFileHonoursItsLimitAndReadsPipes) {
  const std::string text(200000, 'x');
  ASSERT_TRUE(atomic_write(path("a"), bytes_of(text)).ok());
  EXPECT_EQ(read_file(path("a"), text.size()).value(), text);
  EXPECT_THAT(read_file(path("a"), text.size() - 1).error().message, HasSubstr("larger than 199999 bytes"));
  EXPECT_FALSE(read_file(directory_, 10).ok());

  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  const std::jthread writer([&] {
    std::FILE* pipe = std::fopen(path("pipe").c_str(), "w");
    std::fputs("through a pipe", pipe);
    std::fclose(pipe);
  });
  EXPECT_EQ(read_file(path("pipe"), 100).value(), "through a pipe");
}

TEST_F(FileTest, ExistsTellsFilesFromNothing) {
  EXPECT_FALSE(file_exists(path("a")));
  ASSERT_TRUE(atomic_write(path("a"), {}).ok());
  EXPECT_TRUE(file_exists(path("a")));
}

}  // namespace
}  // namespace ds4
