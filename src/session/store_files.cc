#include "session/store_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <system_error>

#include "base/file.h"

namespace ds4 {

namespace {

Error system_error(std::string_view action, const std::string& path, int number) {
  const ErrorCode code = number == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
  return make_error(code, "{}: cannot {}: {}", path, action, std::generic_category().message(number));
}

class SystemFile final : public StoreFile {
 public:
  explicit SystemFile(File file) : file_(std::move(file)) {}
  Result<uint64_t> size() const override { return file_.size(); }
  Result<void> read_at(uint64_t offset, std::span<std::byte> out) const override { return file_.read_at(offset, out); }
  Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes) override {
    return file_.write_at(offset, bytes);
  }
  Result<void> truncate(uint64_t size_bytes) override { return file_.truncate(size_bytes); }
  Result<void> sync() override { return file_.sync(); }

 private:
  File file_;
};

using OpenedFile = Result<std::unique_ptr<StoreFile>>;

OpenedFile opened(Result<File> file) {
  if (!file.ok()) return file.take_error();
  return std::unique_ptr<StoreFile>(std::make_unique<SystemFile>(file.take_value()));
}

class SystemFiles final : public StoreFiles {
 public:
  Result<void> create_directory(const std::string& directory) override {
    for (size_t end = directory.find('/', 1); end != std::string::npos; end = directory.find('/', end + 1)) {
      TRY(make_directory(directory.substr(0, end)));
    }
    return make_directory(directory);
  }

  Result<std::vector<StoreFileEntry>> list(const std::string& directory) override {
    DIR* const stream = opendir(directory.c_str());
    if (stream == nullptr) return system_error("list", directory, errno);
    std::vector<StoreFileEntry> entries;
    while (const dirent* const found = readdir(stream)) {
      struct stat status{};
      if (fstatat(dirfd(stream), found->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode)) {
        continue;
      }
      entries.push_back({found->d_name, static_cast<uint64_t>(status.st_size), status.st_mtime});
    }
    closedir(stream);
    return entries;
  }

  OpenedFile lock(const std::string& path) override {
    auto file = File::create_private(path);
    if (!file.ok() && file.error().code == ErrorCode::kInvalidArgument) file = File::open_for_writing(path);
    if (!file.ok()) return file.take_error();
    TRY(file.value().lock());
    return opened(std::move(file));
  }

  OpenedFile create(const std::string& path) override { return opened(File::create_private(path)); }
  OpenedFile open_for_reading(const std::string& path) override { return opened(File::open_for_reading(path)); }
  OpenedFile open_for_writing(const std::string& path) override { return opened(File::open_for_writing(path)); }

  Result<void> remove(const std::string& path) override {
    if (std::remove(path.c_str()) != 0) return system_error("remove", path, errno);
    return {};
  }

 private:
  static Result<void> make_directory(const std::string& path) {
    constexpr mode_t kOwnerOnly = 0700;
    if (mkdir(path.c_str(), kOwnerOnly) == 0) return {};
    const int number = errno;
    struct stat status{};
    // mkdir may refuse what exists for other reasons than that it exists (a read-only file system).
    if (stat(path.c_str(), &status) == 0) {
      if (S_ISDIR(status.st_mode)) return {};
      return make_error(ErrorCode::kIo, "{}: exists and is not a directory", path);
    }
    return system_error("create the directory", path, number);
  }
};

class SystemWallClock final : public WallClock {
 public:
  int64_t unix_s() const override {
    const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count();
  }
};

}  // namespace

StoreFiles& system_store_files() {
  static SystemFiles files;  // has no state
  return files;
}

const WallClock& system_wall_clock() {
  static const SystemWallClock clock;
  return clock;
}

}  // namespace ds4
