#include "session/memory_files.h"

#include <algorithm>

namespace ds4::test {

using OpenedFile = Result<std::unique_ptr<StoreFile>>;

class MemoryFile final : public StoreFile {
 public:
  MemoryFile(MemoryFiles& files, std::string path, std::shared_ptr<MemoryFiles::Data> data, bool locks)
      : files_(files), path_(std::move(path)), data_(std::move(data)), locks_(locks) {}
  ~MemoryFile() override {
    const std::lock_guard lock(files_.mutex_);
    if (locks_) files_.locked_.erase(path_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  Result<uint64_t> size() const override {
    const std::lock_guard lock(files_.mutex_);
    return data_->bytes.size();
  }

  Result<void> read_at(uint64_t offset, std::span<std::byte> out) const override {
    const std::lock_guard lock(files_.mutex_);
    TRY(files_.check(FileCall::kRead, path_));
    if (offset > data_->bytes.size() || out.size() > data_->bytes.size() - offset) {
      return make_error(ErrorCode::kCorrupt, "{}: ends before byte {}", path_, offset + out.size());
    }
    std::copy_n(data_->bytes.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }

  Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes) override {
    const std::lock_guard lock(files_.mutex_);
    auto checked = files_.check(FileCall::kWrite, path_);
    if (!checked.ok()) bytes = bytes.first(bytes.size() / 2);
    const uint64_t others = files_.count_bytes() - data_->bytes.size();
    const uint64_t most = files_.capacity_ - std::min(files_.capacity_, others);
    const uint64_t fitting = std::min<uint64_t>(bytes.size(), most - std::min(most, offset));
    const bool full = fitting < bytes.size();
    if (fitting > 0) {
      if (data_->bytes.size() < offset + fitting) data_->bytes.resize(offset + fitting);
      std::copy_n(bytes.begin(), fitting, data_->bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    files_.note_peak();
    if (!checked.ok()) return checked;
    if (full) return make_error(ErrorCode::kIo, "{}: cannot write: No space left on device", path_);
    return {};
  }

  Result<void> truncate(uint64_t size_bytes) override {
    const std::lock_guard lock(files_.mutex_);
    TRY(files_.check(FileCall::kTruncate, path_));
    data_->bytes.resize(size_bytes);
    return {};
  }

  Result<void> sync() override {
    const std::lock_guard lock(files_.mutex_);
    return files_.check(FileCall::kSync, path_);
  }

 private:
  MemoryFiles& files_;
  std::string path_;
  std::shared_ptr<MemoryFiles::Data> data_;
  bool locks_;
};

Result<void> MemoryFiles::check(FileCall call, const std::string& path) {
  Fault& fault = faults_[call];
  ++fault.calls;
  if (fault.calls < fault.first || fault.calls > fault.last) return {};
  return make_error(ErrorCode::kIo, "{}: Input/output error", path);
}

uint64_t MemoryFiles::count_bytes() const {
  uint64_t total = 0;
  for (const auto& [path, data] : files_) total += data->bytes.size();
  return total;
}

void MemoryFiles::note_peak() { peak_ = std::max(peak_, count_bytes()); }

Result<void> MemoryFiles::create_directory(const std::string& directory) {
  const std::lock_guard lock(mutex_);
  return check(FileCall::kCreate, directory);
}

Result<std::vector<StoreFileEntry>> MemoryFiles::list(const std::string& directory) {
  const std::lock_guard lock(mutex_);
  std::vector<StoreFileEntry> entries;
  for (const auto& [path, data] : files_) {
    if (path.starts_with(directory + "/")) {
      entries.push_back({path.substr(directory.size() + 1), data->bytes.size(), data->modified_s});
    }
  }
  return entries;
}

OpenedFile MemoryFiles::lock(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TRY(check(FileCall::kCreate, path));
  if (!locked_.insert(path).second) return make_error(ErrorCode::kBusy, "{}: another process has locked it", path);
  return OpenedFile(std::make_unique<MemoryFile>(*this, path, std::make_shared<Data>(), true));
}

OpenedFile MemoryFiles::create(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TRY(check(FileCall::kCreate, path));
  const auto [it, added] = files_.emplace(path, std::make_shared<Data>());
  if (!added) return make_error(ErrorCode::kInvalidArgument, "{}: exists", path);
  return OpenedFile(std::make_unique<MemoryFile>(*this, path, it->second, false));
}

OpenedFile MemoryFiles::open_for_reading(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TRY(check(FileCall::kOpen, path));
  const auto it = files_.find(path);
  if (it == files_.end()) return make_error(ErrorCode::kNotFound, "{}: No such file or directory", path);
  return OpenedFile(std::make_unique<MemoryFile>(*this, path, it->second, false));
}

OpenedFile MemoryFiles::open_for_writing(const std::string& path) { return open_for_reading(path); }

Result<void> MemoryFiles::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  TRY(check(FileCall::kRemove, path));
  if (files_.erase(path) == 0) return make_error(ErrorCode::kNotFound, "{}: No such file or directory", path);
  return {};
}

void MemoryFiles::fail(FileCall call, int64_t first, int64_t last) {
  const std::lock_guard lock(mutex_);
  faults_[call] = {.calls = 0, .first = first, .last = last};
}

void MemoryFiles::repair() {
  const std::lock_guard lock(mutex_);
  faults_.clear();
}

int64_t MemoryFiles::n_calls(FileCall call) const {
  const std::lock_guard lock(mutex_);
  const auto it = faults_.find(call);
  return it == faults_.end() ? 0 : it->second.calls;
}

void MemoryFiles::set_capacity(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_ = bytes;
}

uint64_t MemoryFiles::total_bytes() const {
  const std::lock_guard lock(mutex_);
  return count_bytes();
}

uint64_t MemoryFiles::peak_bytes() const {
  const std::lock_guard lock(mutex_);
  return peak_;
}

std::vector<std::string> MemoryFiles::paths() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, data] : files_) paths.push_back(path);
  return paths;
}

MemoryFiles::Bytes MemoryFiles::contents(const std::string& path) const {
  const std::lock_guard lock(mutex_);
  return files_.at(path)->bytes;
}

void MemoryFiles::set_contents(const std::string& path, Bytes bytes) {
  const std::lock_guard lock(mutex_);
  auto& data = files_[path];
  if (!data) data = std::make_shared<Data>();
  data->bytes = std::move(bytes);
}

void MemoryFiles::set_modified(const std::string& path, int64_t modified_s) {
  const std::lock_guard lock(mutex_);
  files_.at(path)->modified_s = modified_s;
}

std::map<std::string, MemoryFiles::Bytes> MemoryFiles::snapshot() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, Bytes> snapshot;
  for (const auto& [path, data] : files_) snapshot[path] = data->bytes;
  return snapshot;
}

void MemoryFiles::restore(const std::map<std::string, Bytes>& snapshot) {
  const std::lock_guard lock(mutex_);
  files_.clear();
  for (const auto& [path, bytes] : snapshot) files_[path] = std::make_shared<Data>(Data{bytes, 0});
}

}  // namespace ds4::test
