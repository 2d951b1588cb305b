#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace ds4 {
namespace {

TEST(ThreadPoolTest, EveryIndexRunsOnceInChunksOfAtMostTheGrain) {
  for (const int n_threads : {1, 2, 3, 8}) {
    ThreadPool pool(n_threads);
    EXPECT_EQ(pool.n_threads(), n_threads);
    for (const int64_t n : {0, 1, 2, 7, 31, 32, 33, 1000}) {
      for (const int64_t grain : {1, 2, 31, 32, 5000}) {
        std::vector<int> visits(static_cast<size_t>(n), 0);
        pool.parallel_for(n, grain, [&](int64_t first, int64_t last) {
          EXPECT_LT(first, last);
          EXPECT_LE(last - first, grain);
          for (int64_t i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
        });
        EXPECT_EQ(std::ranges::count(visits, 1), n) << n_threads << " threads, n " << n << ", grain " << grain;
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

TEST(ThreadPoolTest, ZeroMeansOnePerCore) { EXPECT_GE(ThreadPool(0).n_threads(), 1); }

}  // namespace
}  // namespace ds4
