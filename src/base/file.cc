#include "base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>

namespace ds4 {

namespace {

constexpr size_t kMaxTransferBytes = size_t{1} << 30;  // one system call moves at most about 2 GiB

Error system_error(std::string_view action, const std::string& path) {
  const int number = errno;
  ErrorCode code = ErrorCode::kIo;
  if (number == ENOENT || number == ENOTDIR) code = ErrorCode::kNotFound;
  if (number == EEXIST) code = ErrorCode::kInvalidArgument;
  return make_error(code, "{}: cannot {}: {}", path, action, std::generic_category().message(number));
}

Result<struct stat> status_of(int descriptor, const std::string& path) {
  struct stat status{};
  if (fstat(descriptor, &status) != 0) return system_error("stat", path);
  return status;
}

// A rename is on the disk only when its directory is.
Result<void> sync_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return system_error("open", directory);
  const int failed = fsync(descriptor);
  const int number = errno;
  ::close(descriptor);
  errno = number;
  // Some file systems cannot sync directories; the file itself is complete then too.
  if (failed != 0 && number != EINVAL) return system_error("sync", directory);
  return {};
}

}  // namespace

Result<File> File::open_with(const std::string& path, int flags, unsigned mode) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (descriptor < 0) return system_error((flags & O_CREAT) != 0 ? "create" : "open", path);
  return File(path, descriptor);
}

Result<File> File::open_for_reading(const std::string& path) { return open_with(path, O_RDONLY); }
Result<File> File::open_for_writing(const std::string& path) { return open_with(path, O_RDWR | O_CREAT); }
Result<File> File::create_new(const std::string& path) { return open_with(path, O_RDWR | O_CREAT | O_EXCL); }
Result<File> File::create_private(const std::string& path) { return open_with(path, O_RDWR | O_CREAT | O_EXCL, 0600); }

File::File(File&& other) noexcept : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<uint64_t> File::size() const { return static_cast<uint64_t>(TRY(status_of(descriptor_, path_)).st_size); }

Result<void> File::read_at(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n =
        pread(descriptor_, out.data(), std::min(out.size(), kMaxTransferBytes), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("read", path_);
    if (n == 0) {
      return make_error(ErrorCode::kCorrupt, "{}: ends at byte {}, {} more were expected", path_, offset, out.size());
    }
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Result<size_t> File::read_some(std::span<std::byte> out) {
  for (;;) {
    const ssize_t n = ::read(descriptor_, out.data(), std::min(out.size(), kMaxTransferBytes));
    if (n >= 0) return static_cast<size_t>(n);
    if (errno != EINTR) return system_error("read", path_);
  }
}

Result<void> File::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t wanted = std::min(bytes.size(), kMaxTransferBytes);
    const ssize_t n = pwrite(descriptor_, bytes.data(), wanted, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Result<void> File::truncate(uint64_t size_bytes) {
  if (ftruncate(descriptor_, static_cast<off_t>(size_bytes)) != 0) return system_error("truncate", path_);
  return {};
}

Result<void> File::sync() {
  if (fsync(descriptor_) != 0) return system_error("sync", path_);
  return {};
}

Result<void> File::lock() {
  if (flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return {};
  if (errno == EWOULDBLOCK) return make_error(ErrorCode::kBusy, "{}: another process has locked it", path_);
  return system_error("lock", path_);
}

Result<void> File::close() {
  if (::close(std::exchange(descriptor_, -1)) != 0) return system_error("close", path_);
  return {};
}

Result<std::unique_ptr<MappedFile>> MappedFile::open(const std::string& path) {
  // O_NONBLOCK keeps a named pipe from waiting for a writer before it can be refused.
  const File file = TRY(File::open_with(path, O_RDONLY | O_NONBLOCK));
  const struct stat status = TRY(status_of(file.descriptor_, path));
  if (!S_ISREG(status.st_mode)) return make_error(ErrorCode::kInvalidArgument, "{}: not a regular file", path);
  const auto size_bytes = static_cast<uint64_t>(status.st_size);
  std::byte* data = nullptr;
  if (size_bytes > 0) {
    void* const address = mmap(nullptr, size_bytes, PROT_READ, MAP_SHARED, file.descriptor_, 0);
    if (address == MAP_FAILED) return system_error("map", path);
    data = static_cast<std::byte*>(address);
  }
  return std::make_unique<MappedFile>(data, size_bytes);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

// Replacing what is behind a link keeps the link.
Result<std::string> resolve_target(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return path;
    return system_error("create", path);
  }
  if (!S_ISREG(status.st_mode)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: exists and is not a regular file", path);
  }
  char* const resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return system_error("resolve", path);
  std::string target = resolved;
  std::free(resolved);
  return target;
}

Result<void> replace_file(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) return system_error("replace", to);
  return sync_directory_of(to);
}

Result<AtomicFileWriter> AtomicFileWriter::create(const std::string& path) {
  constexpr int kMaxAttempts = 100;
  std::string target = TRY(resolve_target(path));
  for (int attempt = 0;; ++attempt) {
    auto file = File::create_new(fmt::format("{}.tmp-{}-{}", target, getpid(), attempt));
    if (file.ok()) return AtomicFileWriter(std::move(target), std::make_unique<File>(file.take_value()));
    if (file.error().code != ErrorCode::kInvalidArgument || attempt == kMaxAttempts) return file.take_error();
  }
}

AtomicFileWriter::~AtomicFileWriter() {
  if (file_ != nullptr) unlink(file_->path().c_str());
}

Result<void> AtomicFileWriter::append(std::span<const std::byte> bytes) {
  CHECK(file_ != nullptr, "append after commit");
  TRY(file_->write_at(size_bytes_, bytes));
  size_bytes_ += bytes.size();
  return {};
}

Result<void> AtomicFileWriter::commit() {
  CHECK(file_ != nullptr, "commit twice");
  TRY(file_->sync());
  TRY(file_->close());
  TRY(replace_file(file_->path(), target_));
  file_ = nullptr;
  return {};
}

Result<void> atomic_write(const std::string& path, std::span<const std::byte> bytes) {
  AtomicFileWriter writer = TRY(AtomicFileWriter::create(path));
  TRY(writer.append(bytes));
  return writer.commit();
}

Result<std::string> read_file(const std::string& path, uint64_t max_bytes) {
  constexpr size_t kStepBytes = size_t{1} << 16;
  File file = TRY(File::open_for_reading(path));
  std::string text;
  for (;;) {
    const size_t filled = text.size();
    text.resize(filled + std::max(kStepBytes, filled));
    const size_t n = TRY(file.read_some(std::as_writable_bytes(std::span(text)).subspan(filled)));
    text.resize(filled + n);
    if (text.size() > max_bytes) {
      return make_error(ErrorCode::kInvalidArgument, "{}: larger than {} bytes", path, max_bytes);
    }
    if (n == 0) return text;
  }
}

bool file_exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace ds4
