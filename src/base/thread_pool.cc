#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/cpu_topology.h"

namespace ds4 {
namespace {

using Clock = std::chrono::steady_clock;

// A loop of a decode step follows the last within a few microseconds; the gaps between steps are a few tens.
constexpr std::chrono::microseconds kSpinTime{100};
// From then on a waiting thread offers its processor to others before it looks again.
constexpr std::chrono::microseconds kSpinAloneTime{20};
constexpr std::chrono::microseconds kNapTime{50};
constexpr int kPausesPerLook = 16;
// Processors fetch lines of 64 bytes in pairs, and some have lines of 128.
constexpr size_t kSeparateBytes = 128;

// Loops have odd numbers; the even number after a loop says that it is closed.
constexpr uint64_t kBeforeFirstLoop = 0;
constexpr uint64_t kStop = UINT64_MAX;
bool is_open(uint64_t state) { return (state & 1) != 0; }

constexpr int kTakenBits = 24;
constexpr uint64_t kMaxChunksPerShare = (uint64_t{1} << kTakenBits) - 1;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Looks until ready() for about the time given. False: the time is over.
template <class Ready>
bool spin_until(std::chrono::microseconds time, const Ready& ready) {
  const auto look = [&ready] {
    for (int i = 0; i < kPausesPerLook; ++i) {
      if (ready()) return true;
      pause_briefly();
    }
    return false;
  };
  if (look()) return true;
  const Clock::time_point start = Clock::now();
  for (;;) {
    if (look()) return true;
    const auto spent = Clock::now() - start;
    if (spent >= time) return false;
    if (spent >= kSpinAloneTime) std::this_thread::yield();
  }
}

// What a thread shares with the others.
struct alignas(kSeparateBytes) Seat {
  // How many chunks of the seat's share are taken, and the low bits of the loop they belong to: of an older loop means
  // none, so nobody has to reset seats between loops.
  std::atomic<uint64_t> taken{0};
  // The thread may be reading the loop's description or running a chunk.
  std::atomic<bool> inside{false};
};

}  // namespace

struct ThreadPool::Shared {
  // The loop: written by the caller while it is closed and nobody is inside.
  BodyRef body{};
  int64_t n = 0;
  int64_t grain = 1;
  int64_t n_chunks = 0;

  // The loop that may be entered, or that none may, or kStop.
  alignas(kSeparateBytes) std::atomic<uint64_t> state{kBeforeFirstLoop};

  alignas(kSeparateBytes) std::atomic<bool> busy{false};  // someone is in parallel_for
  std::chrono::microseconds spin_time{0};
  std::atomic<int> n_sleeping{0};
  std::mutex mutex;
  std::condition_variable wake;

  std::vector<Seat> seats;  // one per thread, the caller's first
  std::vector<std::jthread> workers;

  explicit Shared(int n_threads) : seats(static_cast<size_t>(n_threads)) {}

  void run_chunk(int64_t chunk, int thread) const {
    const int64_t first = chunk * grain;
    body.call(body.context, first, std::min(first + grain, n), thread);
  }

  // The first chunk of a share; the share ends where the next begins.
  int64_t share_begin(size_t share) const {
    return n_chunks * static_cast<int64_t>(share) / static_cast<int64_t>(seats.size());
  }

  void run_share(size_t share, uint64_t loop, int thread) {
    const int64_t begin = share_begin(share);
    const auto n_in_share = static_cast<uint64_t>(share_begin(share + 1) - begin);
    std::atomic<uint64_t>& taken = seats[share].taken;
    uint64_t seen = taken.load(std::memory_order_relaxed);
    for (;;) {
      const bool is_of_loop = seen >> kTakenBits == (loop << kTakenBits) >> kTakenBits;
      const uint64_t n_taken = is_of_loop ? seen & kMaxChunksPerShare : 0;
      if (n_taken >= n_in_share) return;
      const uint64_t next = loop << kTakenBits | (n_taken + 1);
      if (!taken.compare_exchange_weak(seen, next, std::memory_order_relaxed)) continue;
      run_chunk(begin + static_cast<int64_t>(n_taken), thread);
      seen = next;
    }
  }

  // The thread's own share, then whatever is left of the others.
  void run_shares(uint64_t loop, int thread) {
    const auto own = static_cast<size_t>(thread);
    for (size_t share = own; share < seats.size(); ++share) run_share(share, loop, thread);
    for (size_t share = 0; share < own; ++share) run_share(share, loop, thread);
  }

  // The next loop after the one this worker has done, or kStop.
  uint64_t wait_for_next(uint64_t done) {
    uint64_t seen = done;
    const auto is_next = [&] {
      seen = state.load(std::memory_order_seq_cst);
      return is_open(seen) && seen != done;
    };
    while (!spin_until(spin_time, is_next)) {
      // Either this thread sees the change, or the thread that makes it sees one sleeping and takes the lock.
      std::unique_lock lock(mutex);
      n_sleeping.fetch_add(1, std::memory_order_seq_cst);
      wake.wait(lock, [&] { return state.load(std::memory_order_seq_cst) != seen; });
      n_sleeping.fetch_sub(1, std::memory_order_relaxed);
    }
    return seen;
  }

  void work(int thread) {
    Seat& seat = seats[static_cast<size_t>(thread)];
    for (uint64_t loop = wait_for_next(kBeforeFirstLoop); loop != kStop; loop = wait_for_next(loop)) {
      // Either this thread sees that the loop was closed meanwhile, or close() sees it inside and waits.
      seat.inside.store(true, std::memory_order_seq_cst);
      if (state.load(std::memory_order_seq_cst) == loop) run_shares(loop, thread);
      seat.inside.store(false, std::memory_order_release);
    }
  }

  void publish(uint64_t new_state) {
    state.store(new_state, std::memory_order_seq_cst);
    if (n_sleeping.load(std::memory_order_seq_cst) == 0) return;
    {
      const std::lock_guard lock(mutex);
    }
    wake.notify_all();
  }

  // Returns when nobody can reach the loop any more. All its chunks are taken, so whoever is inside leaves soon.
  void close(uint64_t loop) {
    state.store(loop + 1, std::memory_order_seq_cst);
    for (size_t i = 1; i < seats.size(); ++i) {
      const auto is_out = [&inside = seats[i].inside] { return !inside.load(std::memory_order_seq_cst); };
      while (!spin_until(kSpinTime, is_out)) std::this_thread::sleep_for(kNapTime);
    }
  }
};

ThreadPool::ThreadPool(const ThreadPoolOptions& options) {
  const int n_usable = usable_cpu_count();
  const int n_threads = options.n_threads > 0 ? options.n_threads : n_usable;
  shared_ = std::make_unique<Shared>(n_threads);
  // Threads that compete for processors only take time from each other by spinning.
  if (n_threads <= n_usable) shared_->spin_time = kSpinTime;

  const std::vector<int> cpus = options.pin ? cpus_for_threads(n_threads) : std::vector<int>();
  const std::vector<int> nodes = memory_nodes();
  for (int thread = 1; thread < n_threads; ++thread) {
    const int cpu = cpus.empty() ? -1 : cpus[static_cast<size_t>(thread)];
    shared_->workers.emplace_back([shared = shared_.get(), thread, cpu, nodes] {
      if (cpu >= 0) pin_this_thread(cpu);
      // Weights are read by all threads; file pages go where the thread that first touches them wants them.
      if (nodes.size() > 1) interleave_this_thread(nodes);
      shared->work(thread);
    });
  }
}

ThreadPool::~ThreadPool() { shared_->publish(kStop); }

int ThreadPool::n_threads() const { return static_cast<int>(shared_->seats.size()); }

void ThreadPool::run(int64_t n, int64_t grain, const BodyRef& body) {
  CHECK(grain >= 1, "grain {}", grain);
  Shared& shared = *shared_;
  CHECK(!shared.busy.exchange(true, std::memory_order_acquire), "parallel_for inside another one of the same pool");
  const int64_t n_chunks = n <= 0 ? 0 : (n - 1) / grain + 1;
  if (n_chunks <= 1 || shared.workers.empty()) {
    for (int64_t first = 0; first < n; first += grain) body.call(body.context, first, std::min(first + grain, n), 0);
  } else {
    CHECK(static_cast<uint64_t>(n_chunks) / shared.seats.size() < kMaxChunksPerShare, "{} chunks", n_chunks);
    shared.body = body;
    shared.n = n;
    shared.grain = grain;
    shared.n_chunks = n_chunks;
    const uint64_t loop = shared.state.load(std::memory_order_relaxed) + 1;
    shared.publish(loop);
    shared.run_shares(loop, 0);
    shared.close(loop);
  }
  shared.busy.store(false, std::memory_order_release);
}

}  // namespace ds4
