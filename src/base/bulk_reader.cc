#include "base/bulk_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ds4 {

namespace {

constexpr uint64_t kCacheSamples = 256;

int open_descriptor(const std::string& path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | flags);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

uint64_t round_down(uint64_t value) { return value / BulkReader::kAlignmentBytes * BulkReader::kAlignmentBytes; }
uint64_t round_up(uint64_t value) { return round_down(value + BulkReader::kAlignmentBytes - 1); }

}  // namespace

Result<std::unique_ptr<BulkReader>> BulkReader::open(const std::string& path, bool direct) {
  const int buffered = open_descriptor(path, 0);
  if (buffered < 0) return make_error(ErrorCode::kIo, "{}: {}", path, std::strerror(errno));
  int unbuffered = -1;
#ifdef O_DIRECT
  if (direct) unbuffered = open_descriptor(path, O_DIRECT);
#else
  (void)direct;
#endif
  return std::unique_ptr<BulkReader>(new BulkReader(path, buffered, unbuffered));
}

BulkReader::~BulkReader() {
  ::close(buffered_);
  if (direct_ >= 0) ::close(direct_);
}

// Reads until `least` bytes are there; the number that is. kUnsupported: direct reads are refused.
Result<uint64_t> BulkReader::fill(int descriptor, uint64_t offset, std::span<std::byte> out, uint64_t least) const {
  uint64_t done = 0;
  while (done < least) {
    const ssize_t n = ::pread(descriptor, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EINVAL && descriptor == direct_) return make_error(ErrorCode::kUnsupported, "direct reads");
    if (n < 0) {
      return make_error(ErrorCode::kIo, "{}: reading {} bytes at {}: {}", path_, out.size() - done, offset + done,
                        std::strerror(errno));
    }
    if (n == 0) break;
    done += static_cast<uint64_t>(n);
  }
  return done;
}

Result<std::span<const std::byte>> BulkReader::read(uint64_t offset, uint64_t part_bytes,
                                                    std::span<std::byte> buffer) const {
  CHECK(buffer.size() >= buffer_bytes(part_bytes), "a buffer of {} bytes for {}", buffer.size(), part_bytes);
  const auto check = [&](uint64_t found) -> Result<void> {
    if (found >= part_bytes) return {};
    return make_error(ErrorCode::kCorrupt, "{}: expected {} bytes at {}, found {}: the file is shorter than it was",
                      path_, part_bytes, offset, found);
  };
  if (is_direct()) {
    const uint64_t start = round_down(offset);
    const uint64_t lead = offset - start;
    Result<uint64_t> found = fill(direct_, start, buffer.first(round_up(lead + part_bytes)), lead + part_bytes);
    if (found.ok()) {
      TRY(check(found.value() - std::min(found.value(), lead)));
      return std::span<const std::byte>(buffer.subspan(lead, part_bytes));
    }
    if (found.error().code != ErrorCode::kUnsupported) return found.take_error();
    refused_ = true;
  }
  const uint64_t found = TRY(fill(buffered_, offset, buffer.first(part_bytes), part_bytes));
  TRY(check(found));
  return std::span<const std::byte>(buffer.first(part_bytes));
}

bool is_mostly_cached(std::span<const std::byte> mapping) {
  const auto page_bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t n_pages = mapping.size() / page_bytes;
  if (n_pages == 0) return false;
  const uint64_t n_samples = std::min(kCacheSamples, n_pages);
  uint64_t n_cached = 0;
  for (uint64_t i = 0; i < n_samples; ++i) {
    unsigned char state = 0;
    auto* page = const_cast<std::byte*>(mapping.data()) + n_pages * i / n_samples * page_bytes;
    if (::mincore(page, page_bytes, &state) != 0) return false;
    n_cached += state & 1U;
  }
  return 2 * n_cached > n_samples;
}

}  // namespace ds4
