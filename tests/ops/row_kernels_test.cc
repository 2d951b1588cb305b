// Row kernels on every instruction set, those that this processor runs and those that are emulated: the same bits for
// the same input, and elementary functions as exact as vector_math.h says.

#include "backends/cpu/row_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/simd_portable.h"
#include "ops/case_builder.h"
#include "ops/emulated/emulated_kernels.h"

namespace ds4::test {

namespace {

using cpu::Portable;

struct Target {
  std::string name;
  const cpu::RowKernels* kernels;
};

// The portable set first.
std::vector<Target> targets() {
  std::vector<Target> all;
  for (const cpu::Isa isa : cpu::available_isas())
    all.push_back({std::string(cpu::isa_name(isa)), cpu::kernels_of(isa).rows});
  if (const cpu::Kernels* emulated = emulated_avx512_kernels()) all.push_back({"emulated avx512", emulated->rows});
  return all;
}

// run(kernels) gives the same bytes everywhere.
void expect_same_bits(const std::function<std::vector<std::byte>(const cpu::RowKernels&)>& run) {
  const std::vector<Target> all = targets();
  const std::vector<std::byte> expected = run(*all.front().kernels);
  for (const Target& target : all) EXPECT_EQ(run(*target.kernels), expected) << target.name;
}

// Every exponent and sign, and what lies between.
std::vector<float> hard_values(int64_t n) {
  std::vector<float> values = {0.0f, -0.0f, 1e-45f, -1e-45f, 88.72f, 88.73f, -87.4f, -103.9f, -104.1f, 3e38f, -3e38f};
  for (int i = 0; std::ssize(values) < n; ++i)
    values.push_back(std::ldexp(1.0f + static_cast<float>(i % 7) / 7.0f, i / 2 % 40 - 30) *
                     (i % 2 == 0 ? 1.0f : -1.0f));
  return values;
}

double error_in_units(float got, double want) {
  const float nearest = static_cast<float>(want);
  if (got == nearest) return 0.0;
  const float size = std::max(std::fabs(nearest), 0x1p-126f);
  const float unit = std::nextafter(size, std::numeric_limits<float>::infinity()) - size;
  return std::fabs(static_cast<double>(got) - want) / static_cast<double>(unit);
}

template <class Function>
float at(float x, const Function& function) {
  return function(Portable::set1(x)).lane[0];
}

TEST(VectorMathTest, ExpIsAccurateFromSubnormalResultsToTheLargest) {
  const auto exp = [](float x) { return at(x, cpu::exp<Portable>); };
  double worst = 0.0;
  for (int i = -110000; i < 90000; ++i) {
    const float x = static_cast<float>(i) * 0.001f;
    worst = std::max(worst, error_in_units(exp(x), std::exp(static_cast<double>(x))));
  }
  EXPECT_LE(worst, 1.1);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_EQ(exp(-0.0f), 1.0f);
  EXPECT_EQ(exp(-kInfinity), 0.0f);
  EXPECT_EQ(exp(-1e30f), 0.0f);
  EXPECT_EQ(exp(kInfinity), kInfinity);
  EXPECT_EQ(exp(89.5f), kInfinity);
  EXPECT_TRUE(std::isnan(exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorMathTest, SigmoidAndSoftplusAreAccurate) {
  double worst_sigmoid = 0.0;
  double worst_softplus = 0.0;
  for (int i = -80000; i < 80000; ++i) {
    const float x = static_cast<float>(i) * 0.001f;
    const auto z = static_cast<double>(x);
    worst_sigmoid = std::max(worst_sigmoid, error_in_units(at(x, cpu::sigmoid<Portable>), 1.0 / (1.0 + std::exp(-z))));
    const double softplus = z > 40.0 ? z : std::log1p(std::exp(z));
    worst_softplus = std::max(worst_softplus, error_in_units(at(x, cpu::sqrt_softplus<Portable>), std::sqrt(softplus)));
  }
  EXPECT_LE(worst_sigmoid, 3.0);
  EXPECT_LE(worst_softplus, 3.0);
  EXPECT_EQ(at(-1000.0f, cpu::sigmoid<Portable>), 0.0f);
  EXPECT_EQ(at(1000.0f, cpu::sigmoid<Portable>), 1.0f);
}

TEST(RowKernelsTest, ElementaryFunctionsHaveTheSameBitsEverywhere) {
  for (const int64_t n : {1, 7, 8, 9, 31, 500}) {
    const std::vector<float> x = hard_values(n);
    const auto size = static_cast<size_t>(n);
    expect_same_bits([&](const cpu::RowKernels& kernels) {
      std::vector<float> out(size);
      kernels.sqrt_softplus(x.data(), n, out.data());
      return bytes_of(out);
    });
    const std::vector<float> y = make_values({.scale = 9.0f}, n, 1);
    expect_same_bits([&](const cpu::RowKernels& kernels) {
      std::vector<float> out(size);
      kernels.swiglu(y.data(), x.data(), 5.0f, 0.7f, n, out.data());
      return bytes_of(out);
    });
  }
}

TEST(RowKernelsTest, SteeringHasTheSameBitsEverywhere) {
  for (const int64_t n : {1, 7, 15, 16, 17, 31, 33, 500}) {
    const std::vector<float> direction = make_values({}, n, 1);
    for (const float scale : {1.0f, -0.75f, 100.0f}) {
      expect_same_bits([&](const cpu::RowKernels& kernels) {
        std::vector<float> x = make_values({.scale = 9.0f}, n, 2);
        kernels.steer(x.data(), direction.data(), scale, n);
        return bytes_of(x);
      });
    }
  }
}

TEST(RowKernelsTest, AttentionOverRaggedHeadsRowsAndChannelsHasTheSameBitsEverywhere) {
  for (const int64_t n_heads : {1, 3, 16, 33}) {
    for (const int64_t width : {8, 36, 65, 200}) {
      const std::vector<float> query = make_values({}, n_heads * width, 1);
      const std::vector<float> values = make_values({}, 64 * width, 2);
      std::vector<const float*> rows;
      for (int64_t r = 0; r < 64; ++r) rows.push_back(values.data() + r * width);
      expect_same_bits([&](const cpu::RowKernels& kernels) {
        const int64_t padded = (n_heads + kernels.panel_heads - 1) / kernels.panel_heads * kernels.panel_heads;
        std::vector<float> panels(static_cast<size_t>(padded * width));
        std::vector<float> out(static_cast<size_t>(n_heads * width));
        std::vector<float> top(static_cast<size_t>(padded), 0.25f);
        std::vector<float> total(static_cast<size_t>(padded), 1.0f);
        const cpu::HeadSums sums{top.data(), total.data(), out.data()};
        kernels.interleave_heads(query.data(), n_heads, width, panels.data());
        for (const int n_rows : {64, 1, 7, 6})
          kernels.attend({panels.data(), n_heads, width, rows.data(), n_rows}, sums);
        kernels.finish_heads(sums, n_heads, width);
        return bytes_of(out);
      });
    }
  }
}

// Queries of unequal ranges, one of them empty, as they share a panel and one by one.
TEST(RowKernelsTest, QueriesTogetherHaveTheBitsOfEachAlone) {
  constexpr int64_t kWidth = 70;
  constexpr int kRows[] = {64, 0, 1, 63};
  const std::vector<float> values = make_values({}, 64 * kWidth, 2);
  std::vector<const float*> rows;
  for (int64_t r = 0; r < 64; ++r) rows.push_back(values.data() + r * kWidth);
  for (const Target& target : targets()) {
    const cpu::RowKernels& kernels = *target.kernels;
    const auto panel = static_cast<size_t>(kernels.panel_heads);
    for (const int64_t n_heads : {1, 3, 4}) {
      const std::vector<float> query = make_values({.scale = 3.0f}, 4 * n_heads * kWidth, 1);
      std::vector<float> panels(panel * kWidth + panel);
      kernels.interleave_heads(query.data(), 4 * n_heads, kWidth, panels.data());
      std::vector<float> logits(65 * panel);
      kernels.logits(panels.data(), 4 * n_heads, rows.data(), 64, kWidth, logits.data());
      std::vector<float> together_out(static_cast<size_t>(4 * n_heads * kWidth));
      std::vector<float> alone_out = together_out;
      std::vector<std::vector<float>> softmax(16, std::vector<float>(panel, 0.5f));
      std::vector<const float*> logits_of[4];
      std::vector<cpu::QueryRange> ranges;
      for (int64_t q = 0; q < 4; ++q) {
        for (size_t r = 0; r < 64; ++r) logits_of[q].push_back(logits.data() + r * panel + q * n_heads);
        std::vector<float>* own = &softmax[static_cast<size_t>(4 * q)];
        ranges.push_back({rows.data(),
                          logits_of[q].data(),
                          kRows[q],
                          {own[0].data(), own[1].data(), together_out.data() + q * n_heads * kWidth}});
        if (kRows[q] == 0) continue;
        kernels.attend({panels.data() + q * n_heads, n_heads, kWidth, rows.data(), kRows[q]},
                       {own[2].data(), own[3].data(), alone_out.data() + q * n_heads * kWidth});
      }
      kernels.attend_queries(ranges, n_heads, kWidth);
      EXPECT_EQ(bytes_of(together_out), bytes_of(alone_out)) << target.name << " " << n_heads;
      for (size_t q = 0; q < 4; ++q) {
        for (size_t h = 0; h < static_cast<size_t>(n_heads); ++h) {
          EXPECT_EQ(softmax[4 * q][h], softmax[4 * q + 2][h]) << target.name << " query " << q << " head " << h;
          EXPECT_EQ(softmax[4 * q + 1][h], softmax[4 * q + 3][h]) << target.name << " query " << q << " head " << h;
        }
      }
    }
  }
}

// What lets threads share the ranges of a query.
TEST(RowKernelsTest, ARangeOfItsOwnFoldsAsItDoesInPlace) {
  constexpr int64_t kHeads = 5;
  constexpr int64_t kWidth = 40;
  const std::vector<float> query = make_values({.scale = 4.0f}, kHeads * kWidth, 1);
  const std::vector<float> values = make_values({}, 64 * kWidth, 2);
  std::vector<const float*> rows;
  for (int64_t r = 0; r < 64; ++r) rows.push_back(values.data() + r * kWidth);
  for (const Target& target : targets()) {
    const cpu::RowKernels& kernels = *target.kernels;
    const auto padded = static_cast<size_t>(kernels.panel_heads);
    std::vector<float> panels(padded * kWidth);
    kernels.interleave_heads(query.data(), kHeads, kWidth, panels.data());
    struct Sums {
      std::vector<float> top, total, out;
      cpu::HeadSums view() { return {top.data(), total.data(), out.data()}; }
    };
    const auto sums_with = [&](float top, float total) {
      return Sums{std::vector<float>(padded, top), std::vector<float>(padded, total),
                  std::vector<float>(kHeads * kWidth)};
    };
    Sums in_place = sums_with(0.5f, 1.0f);
    Sums folded = sums_with(0.5f, 1.0f);
    for (const int first : {0, 21, 40}) {
      const cpu::RowRange range{panels.data(), kHeads, kWidth, rows.data() + first, 21};
      kernels.attend(range, in_place.view());
      Sums own = sums_with(-std::numeric_limits<float>::infinity(), 0.0f);
      kernels.attend(range, own.view());
      kernels.fold(own.view(), kHeads, kWidth, folded.view());
    }
    EXPECT_EQ(bytes_of(folded.out), bytes_of(in_place.out)) << target.name;
    for (size_t h = 0; h < kHeads; ++h) EXPECT_EQ(folded.total[h], in_place.total[h]) << target.name << " head " << h;
  }
}

TEST(RowKernelsTest, IndexScoresAreExactForRoundedQueriesAndOthersAreRefused) {
  constexpr int64_t kHeads = 7;
  constexpr int64_t kWidth = 128;
  constexpr int64_t kKeys = 21;
  const KvRowFormat format = case_row_format(KvEncoding::kFp4, kWidth, 0);
  std::vector<std::byte> keys(static_cast<size_t>(kKeys * format.row_bytes));
  std::vector<float> key_values(kKeys * kWidth);
  for (int64_t c = 0; c < kKeys; ++c) {
    std::byte* row = keys.data() + c * format.row_bytes;
    pack_kv_row(make_values({.scale = 3.0f}, kWidth, static_cast<uint64_t>(c)).data(), format, row);
    unpack_kv_row(row, format, key_values.data() + c * kWidth);
  }
  const std::vector<float> weights = make_values({}, kHeads, 99);
  for (const Target& target : targets()) {
    std::vector<float> query = make_values({.scale = 2.0f}, kHeads * kWidth, 5);
    std::vector<int8_t> codes(query.size());
    std::vector<float> scales(query.size() / 32);
    std::vector<float> offsets(scales.size());
    const auto encode = [&] {
      return target.kernels->index_codes(query.data(), kHeads, kWidth, codes.data(), scales.data(), offsets.data());
    };
    EXPECT_FALSE(encode()) << target.name;
    for (int64_t h = 0; h < kHeads; ++h) target.kernels->index_round(query.data() + h * kWidth, kWidth);
    ASSERT_TRUE(encode()) << target.name;
    std::vector<float> scores(kKeys);
    target.kernels->index_scores({1, kHeads, kWidth, codes.data(), scales.data(), offsets.data(), weights.data()},
                                 {keys.data(), format.row_bytes, kKeys}, scores.data(), kKeys);
    for (int64_t c = 0; c < kKeys; ++c) {
      float expected = 0.0f;  // every product and sum of a head is exact
      for (int64_t h = 0; h < kHeads; ++h) {
        double dot = 0.0;
        for (int64_t i = 0; i < kWidth; ++i)
          dot += static_cast<double>(query[static_cast<size_t>(h * kWidth + i)]) *
                 static_cast<double>(key_values[static_cast<size_t>(c * kWidth + i)]);
        expected += std::max(0.0f, static_cast<float>(dot)) * weights[static_cast<size_t>(h)];
      }
      EXPECT_EQ(scores[static_cast<size_t>(c)], expected) << target.name << " key " << c;
    }
  }
}

}  // namespace

}  // namespace ds4::test
