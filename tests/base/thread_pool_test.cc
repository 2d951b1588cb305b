#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace ds4 {
namespace {

// The sum of i * factor over [0, n), each index added where it belongs.
int64_t sum_through(ThreadPool& pool, int64_t n, int64_t grain, int64_t factor) {
  std::vector<int64_t> out(static_cast<size_t>(n));
  pool.parallel_for(n, grain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) out[static_cast<size_t>(i)] += i * factor;
  });
  return std::accumulate(out.begin(), out.end(), int64_t{0});
}

int64_t expected_sum(int64_t n, int64_t factor) { return n * (n - 1) / 2 * factor; }

// Long enough for every worker to fall asleep.
void let_workers_sleep() { std::this_thread::sleep_for(std::chrono::milliseconds(3)); }

TEST(ThreadPoolTest, EveryIndexRunsOnceInChunksOfAtMostTheGrain) {
  for (const int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const int64_t n : {-1, 0, 1, 2, 7, 31, 32, 33, 1000}) {
      for (const int64_t grain : {1, 2, 3, 31, 32, 5000}) {
        std::vector<int> visits(static_cast<size_t>(std::max<int64_t>(n, 0)), 0);
        pool.parallel_for(n, grain, [&](int64_t first, int64_t last) {
          EXPECT_LT(first, last);
          EXPECT_LE(last - first, grain);
          for (int64_t i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
        });
        EXPECT_EQ(std::ranges::count(visits, 1), std::ssize(visits))
            << n_threads << " threads, n " << n << ", grain " << grain;
      }
    }
  }
}

TEST(ThreadPoolTest, ResultsDoNotDependOnTheNumberOfThreads) {
  const auto run = [](int n_threads) {
    ThreadPool pool(n_threads);
    std::vector<double> out(3000);
    pool.parallel_for(3000, 7, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        double sum = 0;
        for (int64_t k = 1; k <= 50; ++k) sum += 1.0 / static_cast<double>(i + k);
        out[static_cast<size_t>(i)] = sum;
      }
    });
    return out;
  };
  const auto alone = run(1);
  EXPECT_EQ(run(2), alone);
  EXPECT_EQ(run(5), alone);
}

TEST(ThreadPoolTest, ManyShortLoopsInARowEachSeeTheirOwnBody) {
  ThreadPool pool(4);
  std::vector<int64_t> out(64);
  for (int64_t round = 0; round < 3000; ++round) {
    pool.parallel_for(64, 1,
                      [&out, round](int64_t first, int64_t) { out[static_cast<size_t>(first)] = first * round; });
    ASSERT_EQ(std::accumulate(out.begin(), out.end(), int64_t{0}), round * 63 * 64 / 2) << round;
  }
}

TEST(ThreadPoolTest, ThreadNumbersAreInRangeAndNeverUsedByTwoBodiesAtOnce) {
  constexpr int kThreads = 5;
  ThreadPool pool(kThreads);
  std::array<std::atomic<int>, kThreads> in_use{};
  std::atomic<int> n_clashes = 0;
  for (int round = 0; round < 200; ++round) {
    pool.parallel_for(40, 1, [&](int64_t, int64_t, int thread) {
      ASSERT_GE(thread, 0);
      ASSERT_LT(thread, kThreads);
      if (in_use[static_cast<size_t>(thread)].fetch_add(1) != 0) ++n_clashes;
      in_use[static_cast<size_t>(thread)].fetch_sub(1);
    });
  }
  EXPECT_EQ(n_clashes, 0);
}

TEST(ThreadPoolTest, WorkersTakePartWhereTheCallerAloneCouldNotFinish) {
  ThreadPool pool(2);
  for (const bool asleep : {false, true}) {
    if (asleep) let_workers_sleep();
    // Both chunks wait for each other, so two threads must be running them.
    std::atomic<int> n_begun = 0;
    pool.parallel_for(2, 1, [&](int64_t, int64_t) {
      ++n_begun;
      while (n_begun < 2) std::this_thread::yield();
    });
    EXPECT_EQ(n_begun, 2);
  }
}

TEST(ThreadPoolTest, LeftoverChunksOfABusyThreadAreTakenByOthers) {
  ThreadPool pool(2);
  std::atomic<int> n_done = 0;
  // Whoever gets chunk 0 waits for all others, half of which are in its own share.
  pool.parallel_for(16, 1, [&](int64_t first, int64_t) {
    while (first == 0 && n_done < 15) std::this_thread::yield();
    ++n_done;
  });
  EXPECT_EQ(n_done, 16);
}

TEST(ThreadPoolTest, SleepingWorkersWakeForTheNextLoopAgainAndAgain) {
  ThreadPool pool(3);
  for (int64_t round = 0; round < 60; ++round) {
    if (round % 3 == 0) let_workers_sleep();
    ASSERT_EQ(sum_through(pool, 300, 10, round), expected_sum(300, round)) << round;
  }
}

TEST(ThreadPoolTest, PausesAboutAsLongAsTheSpinLoseNoLoop) {
  ThreadPool pool(2);
  for (int64_t round = 0; round < 300; ++round) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(90 + round % 20);
    while (std::chrono::steady_clock::now() < until) {
    }
    ASSERT_EQ(sum_through(pool, 8, 1, round), expected_sum(8, round)) << round;
  }
}

TEST(ThreadPoolTest, PoolsComeAndGoQuickly) {
  for (int64_t round = 0; round < 300; ++round) {
    ThreadPool pool(static_cast<int>(1 + round % 5));
    if (round % 3 == 0) continue;  // gone before its workers have begun
    ASSERT_EQ(sum_through(pool, 20, 3, round), expected_sum(20, round));
  }
}

TEST(ThreadPoolTest, APoolWhoseWorkersSleepIsDestroyed) {
  ThreadPool pool(4);
  let_workers_sleep();
}

TEST(ThreadPoolTest, FarMoreThreadsThanProcessorsStillFinish) {
  ThreadPool pool(48);
  for (int64_t round = 0; round < 100; ++round) {
    ASSERT_EQ(sum_through(pool, 1000, 1 + round % 9, round), expected_sum(1000, round));
  }
}

TEST(ThreadPoolTest, TwoPoolsRunSideBySide) {
  const auto run = [] {
    ThreadPool pool(3);
    int64_t n_wrong = 0;
    for (int64_t round = 0; round < 500; ++round) {
      if (sum_through(pool, 100, 7, round) != expected_sum(100, round)) ++n_wrong;
    }
    return n_wrong;
  };
  int64_t n_wrong_there = -1;
  std::jthread other([&] { n_wrong_there = run(); });
  EXPECT_EQ(run(), 0);
  other.join();
  EXPECT_EQ(n_wrong_there, 0);
}

TEST(ThreadPoolTest, OneLoopMayUseAnotherPool) {
  ThreadPool outer(2);
  ThreadPool inner(2);
  int64_t sum = 0;
  outer.parallel_for(1, 1, [&](int64_t, int64_t) { sum = sum_through(inner, 10, 1, 1); });
  EXPECT_EQ(sum, expected_sum(10, 1));
}

TEST(ThreadPoolTest, CallersMayTakeTurns) {
  ThreadPool pool(3);
  for (int64_t round = 0; round < 50; ++round) {
    std::jthread([&] { EXPECT_EQ(sum_through(pool, 50, 4, round), expected_sum(50, round)); }).join();
    ASSERT_EQ(sum_through(pool, 50, 4, round), expected_sum(50, round));
  }
}

TEST(ThreadPoolTest, PinnedPoolsComputeTheSame) {
  ThreadPool pool(ThreadPoolOptions{.n_threads = 3, .pin = true});
  EXPECT_EQ(sum_through(pool, 100, 7, 3), expected_sum(100, 3));
}

TEST(ThreadPoolTest, ZeroMeansOnePerCore) { EXPECT_GE(ThreadPool(0).n_threads(), 1); }

TEST(ThreadPoolDeathTest, ALoopInsideALoopOfTheSamePoolIsRefusedForAnyNumberOfThreads) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const int n_threads : {1, 2}) {
    for (const int64_t n : {1, 4}) {
      EXPECT_DEATH(
          {
            ThreadPool pool(n_threads);
            pool.parallel_for(n, 1, [&](int64_t, int64_t) { pool.parallel_for(1, 1, [](int64_t, int64_t) {}); });
          },
          "parallel_for inside another");
    }
  }
}

TEST(ThreadPoolDeathTest, AGrainBelowOneIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(ThreadPool(1).parallel_for(1, 0, [](int64_t, int64_t) {}), "grain 0");
}

}  // namespace
}  // namespace ds4
