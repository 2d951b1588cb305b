#pragma once

// Files: positional reads and writes, read-only mappings, and replacement of a whole file that is either
// complete or not there (temporary sibling, fsync, rename). Every error names the path and the system's reason.
// Objects are movable and close what they hold. A File may be read by several threads at once.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"
#include "base/tensor.h"

namespace ds4 {

class File {
 public:
  static Result<File> open_for_reading(const std::string& path);
  // Opens for reading and writing, and creates the file when it does not exist.
  static Result<File> open_for_writing(const std::string& path);
  // Fails with kInvalidArgument when the file exists already.
  static Result<File> create_new(const std::string& path);
  // The same, for its owner's eyes only (mode 0600).
  static Result<File> create_private(const std::string& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& path() const { return path_; }
  Result<uint64_t> size() const;
  // Whole span or an error; reading beyond the end is kCorrupt.
  Result<void> read_at(uint64_t offset, std::span<std::byte> out) const;
  // The next bytes of a stream, for pipes too: at most out.size(), 0 at the end. Moves the file's own position.
  Result<size_t> read_some(std::span<std::byte> out);
  Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes);
  Result<void> truncate(uint64_t size_bytes);
  Result<void> sync();  // data reaches the disk
  // Takes the file for this object until it is closed. Error: kBusy when another one, of any process, has it.
  Result<void> lock();
  // Closes now; reports what the destructor cannot.
  Result<void> close();

 private:
  friend class MappedFile;
  File(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  static Result<File> open_with(const std::string& path, int flags, unsigned mode = 0666);

  std::string path_;
  int descriptor_ = -1;
};

// A whole regular file, mapped read-only. host_data() must not be written through.
class MappedFile final : public Buffer {
 public:
  static Result<std::unique_ptr<MappedFile>> open(const std::string& path);
  // For open(): takes over a mapping.
  MappedFile(std::byte* data, uint64_t size_bytes) : data_(data), size_bytes_(size_bytes) {}
  ~MappedFile() override;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::byte* host_data() const override { return data_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  std::span<const std::byte> bytes() const { return {data_, size_bytes_}; }

 private:
  std::byte* data_;
  uint64_t size_bytes_;
};

// Appends to a temporary sibling of `path`; commit() puts it in place. Without commit() the sibling is removed
// and `path` stays as it was. A symbolic link is followed; what exists and is no regular file is refused.
class AtomicFileWriter {
 public:
  static Result<AtomicFileWriter> create(const std::string& path);
  AtomicFileWriter(AtomicFileWriter&& other) noexcept = default;
  AtomicFileWriter& operator=(AtomicFileWriter&& other) = delete;
  ~AtomicFileWriter();

  Result<void> append(std::span<const std::byte> bytes);
  uint64_t size_bytes() const { return size_bytes_; }
  Result<void> commit();

 private:
  AtomicFileWriter(std::string target, std::unique_ptr<File> file)
      : target_(std::move(target)), file_(std::move(file)) {}

  std::string target_;
  std::unique_ptr<File> file_;  // the sibling; null after commit() or a move
  uint64_t size_bytes_ = 0;
};

// What AtomicFileWriter is made of, for files that outlive a run before they are complete.
// The path behind symbolic links; the path itself when nothing exists. Error: what exists is no regular file.
Result<std::string> resolve_target(const std::string& path);
// Renames `from`, which is synced and closed, to `to`; the rename reaches the disk.
Result<void> replace_file(const std::string& from, const std::string& to);

Result<void> atomic_write(const std::string& path, std::span<const std::byte> bytes);

// Reads until the end, so pipes work too; more than max_bytes is an error.
// The bytes as they are, text or not.
Result<std::string> read_file(const std::string& path, uint64_t max_bytes);
bool file_exists(const std::string& path);

}  // namespace ds4
