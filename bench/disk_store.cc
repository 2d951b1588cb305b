// Speeds of the disk store at the shape of DeepSeek-V4-Flash:
//
//   disk_store_bench DIRECTORY [restore|scan|eviction|all]
//
// restore: a context of 100k tokens (391 pages and a frontier) read back from the page cache, next to copying as many
// bytes within memory, with one thread and with all. scan: opening a directory of 10,000 checkpoints, each with 8 pages
// of its own; payloads are holes in the files. eviction: what is computed while the engine may have to wait. Needs 1 GB
// of disk and of memory. bench/README.md says how to build it.

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "base/thread_pool.h"
#include "session/disk_store.h"
#include "session/eviction.h"
#include "session/segment_file.h"
#include "session/store_index.h"

namespace {

constexpr uint64_t kPageBytes = 900'608;
constexpr uint64_t kFrontierBytes = 15'420'416;
constexpr int kPageTokens = 256;
constexpr int kRepeats = 9;

using Clock = std::chrono::steady_clock;

// Processor time of all threads beside the time that passed: on a busy machine the latter says little.
struct Seconds {
  double passed = 0;
  double processor = 0;
};

double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// Medians.
template <class Body>
Seconds measure(const Body& body) {
  std::vector<double> passed;
  std::vector<double> processor;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = Clock::now();
    const double processor_start = processor_seconds();
    body();
    passed.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    processor.push_back(processor_seconds() - processor_start);
  }
  std::ranges::sort(passed);
  std::ranges::sort(processor);
  return {passed[kRepeats / 2], processor[kRepeats / 2]};
}

ds4::StoredPage page_after(const ds4::Hash128& parent, int first_token) {
  ds4::StoredPage page{.parent = parent};
  for (int i = 0; i < kPageTokens; ++i) page.tokens.push_back(first_token + i);
  page.key = ds4::page_key(parent, page.tokens);
  return page;
}

void fill_randomly(std::span<std::byte> bytes, uint64_t seed) {
  ds4::Xorshift64Star random(seed);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random.next();
    std::memcpy(bytes.data() + i, &word, sizeof(word));
  }
}

ds4::DiskStoreOptions options_for(const std::string& directory) {
  return {.directory = directory,
          .budget_bytes = uint64_t{1} << 40,
          .identity = {1, 2},
          .page_bytes = kPageBytes,
          .queue_bytes = uint64_t{1} << 30};
}

void report(const char* what, const Seconds& seconds, uint64_t n_bytes) {
  std::printf("%-58s %8.1f ms %7.2f GB/s  processor %6.1f ms\n", what, seconds.passed * 1e3,
              static_cast<double>(n_bytes) / seconds.passed * 1e-9, seconds.processor * 1e3);
}
void report(const char* what, const Seconds& seconds) {
  std::printf("%-58s %8.1f ms  processor %6.1f ms\n", what, seconds.passed * 1e3, seconds.processor * 1e3);
}

int measure_restore(const std::string& directory) {
  constexpr int kPages = 100'000 / kPageTokens + 1;
  const auto store = ds4::DiskStore::open(options_for(directory)).take_value();
  std::vector<std::byte> payload(kPageBytes);
  std::vector<ds4::Hash128> keys;
  const auto start = Clock::now();
  for (int i = 0; i < kPages; ++i) {
    const ds4::StoredPage page = page_after(keys.empty() ? ds4::Hash128{} : keys.back(), i * kPageTokens);
    keys.push_back(page.key);
    fill_randomly(payload, page.key.low);
    if (!store->put_page(page, payload)) return 1;
  }
  std::vector<std::byte> frontier(kFrontierBytes);
  fill_randomly(frontier, 1);
  const ds4::Hash128 checkpoint = ds4::page_key(keys.back(), {});
  store->put_checkpoint({.key = checkpoint, .parent = keys.back(), .n_tokens = kPages * kPageTokens}, frontier);
  if (!store->flush().ok()) return 1;
  const uint64_t n_bytes = kPages * kPageBytes + kFrontierBytes;
  std::printf("written and synced: %.2f GB/s, with making the bytes\n",
              static_cast<double>(n_bytes) / std::chrono::duration<double>(Clock::now() - start).count() * 1e-9);

  std::vector<std::byte> source(n_bytes, std::byte{1});
  std::vector<std::byte> restored(n_bytes, std::byte{2});
  report("memcpy, one thread", measure([&] { std::memcpy(restored.data(), source.data(), n_bytes); }), n_bytes);
  const auto read_page = [&](int64_t i) {
    const auto out = std::span(restored).subspan(static_cast<size_t>(i) * kPageBytes, kPageBytes);
    if (!store->read_page(keys[static_cast<size_t>(i)], out).ok()) std::abort();
  };
  const auto read_frontier = [&] {
    if (!store->read_checkpoint(checkpoint, std::span(restored).last(kFrontierBytes)).ok()) std::abort();
  };
  report("restore of 100k tokens, one thread", measure([&] {
           for (int i = 0; i < kPages; ++i) read_page(i);
           read_frontier();
         }),
         n_bytes);
  ds4::ThreadPool pool(0);
  report("memcpy, all threads", measure([&] {
           pool.parallel_for(kPages, 1, [&](int64_t first, int64_t last) {
             const size_t at = static_cast<size_t>(first) * kPageBytes;
             std::memcpy(restored.data() + at, source.data() + at, static_cast<size_t>(last - first) * kPageBytes);
           });
         }),
         kPages * kPageBytes);
  report("restore, all threads", measure([&] {
           pool.parallel_for(kPages + 1, 1, [&](int64_t first, int64_t) {
             if (first == kPages) return read_frontier();
             read_page(first);
           });
         }),
         n_bytes);
  return 0;
}

// Sealed segments as the store makes them, but payloads are holes.
class SegmentMaker {
 public:
  SegmentMaker(std::string directory, const ds4::DiskStoreOptions& options)
      : directory_(std::move(directory)), header_{.identity = options.identity, .page_bytes = options.page_bytes} {}

  uint32_t n_segments() const { return header_.number; }
  void add(const ds4::RecordHeader& record, std::vector<int32_t> tail_tokens) {
    entries_.push_back({offset_, record, std::move(tail_tokens)});
    offset_ += ds4::record_bytes(record);
  }
  ds4::Result<void> finish() {
    ++header_.number;
    const auto header_bytes = ds4::encode_segment_header(header_);
    const uint64_t seed = ds4::segment_seed(header_bytes);
    const auto file = TRY(ds4::system_store_files().create(directory_ + "/" + ds4::segment_name(header_.number)));
    TRY(file->write_at(0, header_bytes));
    std::vector<std::byte> index;
    for (const ds4::IndexEntry& entry : entries_) {
      TRY(file->write_at(entry.offset, ds4::encode_record_header(entry.header, seed, entry.offset)));
      ds4::append_index_entry(entry, seed, index);
    }
    const ds4::RecordHeader record{.kind = ds4::RecordKind::kIndex,
                                   .payload_bytes = index.size(),
                                   .meta_checksum = ds4::checksum_of({}),
                                   .payload_checksum = ds4::checksum_of(index)};
    TRY(file->write_at(offset_, ds4::encode_record_header(record, seed, offset_)));
    TRY(file->write_at(offset_ + ds4::kRecordHeaderBytes, index));
    const uint64_t trailer = offset_ + ds4::record_bytes(record);
    TRY(file->write_at(trailer, ds4::encode_trailer(offset_, seed, trailer)));
    entries_.clear();
    offset_ = ds4::kSegmentHeaderBytes;
    return {};
  }

 private:
  std::string directory_;
  ds4::SegmentHeader header_;
  std::vector<ds4::IndexEntry> entries_;
  uint64_t offset_ = ds4::kSegmentHeaderBytes;
};

constexpr int kCheckpoints = 10'000;

ds4::Result<void> make_checkpoints(SegmentMaker& segments) {
  constexpr int kPagesEach = 8;
  constexpr int kCheckpointsPerSegment = 10;
  constexpr int kConversationLength = 40;
  ds4::Hash128 parent;
  int n_tokens = 0;
  for (int i = 0; i < kCheckpoints; ++i) {
    if (i % kConversationLength == 0) {
      parent = {};
      n_tokens = 0;
    }
    for (int p = 0; p < kPagesEach; ++p) {
      const ds4::StoredPage page = page_after(parent, (i * kPagesEach + p) * kPageTokens);
      segments.add({.kind = ds4::RecordKind::kPage,
                    .meta_bytes = 4 * kPageTokens,
                    .n_tokens = kPageTokens,
                    .payload_bytes = kPageBytes,
                    .key = page.key,
                    .parent = parent},
                   {});
      parent = page.key;
      n_tokens += kPageTokens;
    }
    const std::vector<int32_t> tail(static_cast<size_t>(i % kPageTokens), i);
    segments.add({.kind = ds4::RecordKind::kCheckpoint,
                  .meta_bytes = static_cast<uint32_t>(4 * tail.size()),
                  .n_tokens = n_tokens + static_cast<int>(tail.size()),
                  .payload_bytes = kFrontierBytes,
                  .key = ds4::page_key(parent, tail),
                  .parent = parent},
                 tail);
    if (i % kCheckpointsPerSegment == kCheckpointsPerSegment - 1) TRY(segments.finish());
  }
  return {};
}

void forget_cached(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY);
  fsync(descriptor);
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  ::close(descriptor);
}

int measure_scan(const std::string& directory) {
  std::filesystem::create_directories(directory);
  const ds4::DiskStoreOptions options = options_for(directory);
  SegmentMaker segments(directory, options);
  if (!make_checkpoints(segments).ok()) return 1;
  uint64_t disk_bytes = 0;
  const Seconds open_time = measure([&] {
    const auto store = ds4::DiskStore::open(options).take_value();
    disk_bytes = store->statistics().disk_bytes;
    if (store->statistics().n_checkpoints != kCheckpoints || !store->take_notices().empty()) std::abort();
  });
  std::printf("%u segments, %.0f GB\n", segments.n_segments(), static_cast<double>(disk_bytes) * 1e-9);
  report("open with 10,000 checkpoints and 80,000 pages, cached", open_time);
  for (uint32_t i = 1; i <= segments.n_segments(); ++i) forget_cached(directory + "/" + ds4::segment_name(i));
  const auto start = Clock::now();
  const auto store = ds4::DiskStore::open(options).take_value();
  std::printf("%-58s %8.1f ms\n", "the same, file contents not cached",
              std::chrono::duration<double>(Clock::now() - start).count() * 1e3);
  report("checkpoints()", measure([&] {
           if (store->checkpoints().size() != kCheckpoints) std::abort();
         }));
  return 0;
}

int measure_eviction(const std::string&) {
  ds4::StoreIndex index;
  index.add_segment(1, {.ours = true});
  uint64_t offset = 64;
  ds4::Hash128 parent;
  for (uint64_t i = 1; i <= 90'000; ++i) {
    const bool is_page = i % 9 != 0;
    if (i % 360 == 1) parent = {};
    const ds4::RecordHeader header{.kind = is_page ? ds4::RecordKind::kPage : ds4::RecordKind::kCheckpoint,
                                   .n_tokens = is_page ? kPageTokens : static_cast<int32_t>(i % 360 / 9 * 2048),
                                   .payload_bytes = is_page ? kPageBytes : kFrontierBytes,
                                   .key = {ds4::splitmix64_mix(i), i},
                                   .parent = parent};
    index.add(header, {1, 0, offset, header.payload_bytes}, {});
    offset += ds4::record_bytes(header);
    if (is_page) parent = header.key;
  }
  report("order of eviction of 10,000 checkpoints", measure([&] {
           if (ds4::eviction_order(index, 0).empty()) std::abort();
         }));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: disk_store_bench DIRECTORY [restore|scan|eviction|all]\n");
    return 2;
  }
  const std::string directory = std::string(argv[1]) + "/ds4-disk-store-bench";
  const std::string what = argc > 2 ? argv[2] : "all";
  int status = 0;
  struct Measurement {
    const char* name;
    int (*measure)(const std::string& directory);
  };
  for (const Measurement& one : {Measurement{"restore", measure_restore}, Measurement{"scan", measure_scan},
                                 Measurement{"eviction", measure_eviction}}) {
    if (what != "all" && what != one.name) continue;
    std::filesystem::remove_all(directory);
    status |= one.measure(directory);
    std::filesystem::remove_all(directory);
  }
  return status;
}
