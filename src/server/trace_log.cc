#include "server/trace_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/log.h"

namespace ds4 {
namespace {

constexpr size_t kMaxQueuedBytes = 64U << 20;

}  // namespace

Result<std::unique_ptr<TraceLog>> TraceLog::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  std::FILE* file = descriptor >= 0 ? fdopen(descriptor, "a") : nullptr;
  if (file == nullptr) {
    const int error = errno;
    if (descriptor >= 0) ::close(descriptor);
    return make_error(ErrorCode::kIo, "--trace {}: {}", path, std::strerror(error));
  }
  return std::unique_ptr<TraceLog>(new TraceLog(file, path));
}

TraceLog::TraceLog(std::FILE* file, std::string path)
    : file_(file), path_(std::move(path)), thread_([this] { run(); }) {}

TraceLog::~TraceLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
  std::fclose(file_);
}

void TraceLog::append(const std::string& record) {
  {
    const std::lock_guard lock(mutex_);
    if (queue_.size() + record.size() > kMaxQueuedBytes && !queue_.empty()) {
      ++n_dropped_;
      return;
    }
    queue_ += record;
  }
  changed_.notify_one();
}

uint64_t TraceLog::next_number() {
  const std::lock_guard lock(mutex_);
  return ++n_records_;
}

void TraceLog::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::string bytes = std::exchange(queue_, {});
    const uint64_t n_dropped = std::exchange(n_dropped_, 0);
    lock.unlock();
    const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size() && std::fflush(file_) == 0;
    if (!written) log_warn("trace not written", {{"file", path_}, {"reason", std::strerror(errno)}});
    if (n_dropped > 0) log_warn("trace records left out", {{"file", path_}, {"n", n_dropped}});
    lock.lock();
  }
}

}  // namespace ds4
