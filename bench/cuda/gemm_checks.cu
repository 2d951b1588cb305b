// The checks of gemm_bench: every tile kernel against sums in double over the same codes, that repetitions and single
// rows give the same bits, that every output is written, and the plan of the experts against its definition.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "gemm_bench.cuh"

namespace ds4::cuda::bench {
namespace {

constexpr WeightType kTypes[] = {WeightType::kQ8_0, WeightType::kQ4_K, WeightType::kQ2_K, WeightType::kIQ2_XXS,
                                 WeightType::kMXFP4};
int n_failed = 0;
int n_done = 0;

void expect(bool ok, const char* what, WeightType type, int64_t rows, int64_t n_out, int64_t n_in) {
  ++n_done;
  if (ok) return;
  ++n_failed;
  std::printf("FAILED %s: %s, %lld rows, %lld x %lld\n", what, type_name(type), static_cast<long long>(rows),
              static_cast<long long>(n_out), static_cast<long long>(n_in));
}

// The largest difference over the sum of magnitudes; huge for a NaN.
double worst(const std::vector<float>& actual, const std::vector<Dot>& expected) {
  double most = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double error = std::fabs(actual[i] - expected[i].value) / (expected[i].magnitude + 1e-30);
    if (!(error <= most)) most = std::isnan(error) ? 1e30 : error;
  }
  return most;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::map<int, double> worst_of_type;

void check_dense(WeightType type, int64_t rows, int64_t n_out, int64_t n_in, int64_t n_groups) {
  const RandomWeight weight(type, n_out, n_in, 11);
  DeviceArray<float> x(rows * n_in * n_groups), out(rows * n_out);
  fill_floats<<<256, 256>>>(x.data(), x.size(), 1.0f, static_cast<uint64_t>(rows));
  Quantised codes(rows, n_in * n_groups, block_of(type));
  codes.fill(x.data());
  const auto run = [&](const TileActivations& view, DeviceArray<float>& into) {
    into.poison();
    check(tile_matmul({type, weight.planes(), view, into.data(), n_out, n_in, n_groups}, nullptr), "tile_matmul");
    check(cudaDeviceSynchronize(), "tile_matmul");
    return into.host();
  };
  const std::vector<float> once = run(codes.view(), out);
  const double error =
      worst(once, reference({type, weight.planes(), codes.view(), n_out, n_in, n_groups, nullptr, 1, rows}));
  worst_of_type[static_cast<int>(type)] = std::max(worst_of_type[static_cast<int>(type)], error);
  expect(error < 1e-6, "product", type, rows, n_out, n_in);
  if (!(error < 1e-6)) std::printf("  error %.3g\n", error);
  expect(same_bits(once, run(codes.view(), out)), "repetition", type, rows, n_out, n_in);
  if (rows <= 40) return;
  // The last 20 rows alone.
  Quantised few(20, n_in * n_groups, block_of(type));
  few.fill(x.data() + (rows - 20) * n_in * n_groups);
  DeviceArray<float> few_out(20 * n_out);
  const std::vector<float> alone = run(few.view(), few_out);
  expect(std::memcmp(alone.data(), once.data() + (rows - 20) * n_out, alone.size() * sizeof(float)) == 0, "rows alone",
         type, rows, n_out, n_in);
}

float swiglu_host(double gate, double up, float clamp) {
  gate = std::min<double>(gate, clamp);
  up = std::min<double>(std::max<double>(up, -clamp), clamp);
  return static_cast<float>(gate / (1.0 + std::exp(-gate)) * up);
}

double worst_swiglu(const std::vector<float>& actual, const std::vector<Dot>& gate, const std::vector<Dot>& up,
                    const std::vector<float>& weights, int64_t hidden, float clamp) {
  double most = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double weight = weights.empty() ? 1.0 : weights[i / static_cast<size_t>(hidden)];
    const double expected = swiglu_host(gate[i].value, up[i].value, clamp) * weight;
    const double error = std::fabs(actual[i] - expected) / (std::fabs(expected) + 1e-2 + 1e-4 * gate[i].magnitude);
    if (!(error <= most)) most = std::isnan(error) ? 1e30 : error;
  }
  return most;
}

void check_swiglu(WeightType type, int64_t rows, int64_t hidden, int64_t n_in) {
  const RandomWeight gate(type, hidden, n_in, 21), up(type, hidden, n_in, 31);
  DeviceArray<float> x(rows * n_in), out(rows * hidden);
  fill_floats<<<256, 256>>>(x.data(), x.size(), 0.3f, 3);
  Quantised codes(rows, n_in, block_of(type));
  codes.fill(x.data());
  check(tile_swiglu({type, gate.planes(), up.planes(), codes.view(), out.data(), hidden, n_in, 10.0f}, nullptr),
        "swiglu");
  check(cudaDeviceSynchronize(), "swiglu");
  const double error =
      worst_swiglu(out.host(), reference({type, gate.planes(), codes.view(), hidden, n_in, 1, nullptr, 1, rows}),
                   reference({type, up.planes(), codes.view(), hidden, n_in, 1, nullptr, 1, rows}), {}, hidden, 10.0f);
  expect(error < 1e-2, "swiglu", type, rows, hidden, n_in);
  if (!(error < 1e-2)) std::printf("  error %.3g\n", error);
}

void check_plan(const std::vector<int32_t>& ids, int64_t n_experts, const std::vector<int32_t>& pairs,
                const std::vector<ExpertTile>& tiles, int32_t n_tiles) {
  std::vector<int32_t> expected;
  for (int32_t e = 0; e < n_experts; ++e) {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] == e) expected.push_back(static_cast<int32_t>(i));
    }
  }
  bool ok = expected == pairs && n_tiles <= static_cast<int32_t>(tiles.size());
  int32_t next = 0;
  for (int32_t t = 0; ok && t < n_tiles; ++t) {
    const ExpertTile& tile = tiles[static_cast<size_t>(t)];
    ok = tile.first == next && tile.count > 0 && tile.count <= kTileRows;
    for (int32_t i = 0; ok && i < tile.count; ++i)
      ok = ids[static_cast<size_t>(pairs[static_cast<size_t>(tile.first + i)])] == tile.expert;
    next += tile.count;
  }
  expect(ok && next == static_cast<int32_t>(ids.size()), "plan of experts", WeightType::kF32,
         static_cast<int64_t>(ids.size()), n_experts, 0);
}

struct ExpertCase {
  WeightType gate, down;
  int64_t rows, n_experts, n_used, width, hidden;
  int skew;
};

void check_experts(const ExpertCase& c) {
  const RandomWeight gate(c.gate, c.n_experts * c.hidden, c.width, 1), up(c.gate, c.n_experts * c.hidden, c.width, 5);
  const RandomWeight down(c.down, c.n_experts * c.width, c.hidden, 9);
  const int64_t n_pairs = c.rows * c.n_used;
  DeviceArray<float> x(c.rows * c.width), mid(n_pairs * c.hidden), weights(n_pairs), pairs_out(n_pairs * c.width),
      out(c.rows * c.width);
  fill_floats<<<256, 256>>>(x.data(), x.size(), 0.3f, 3);
  fill_floats<<<256, 256>>>(weights.data(), n_pairs, 0.3f, 4);
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < n_pairs; ++i) {
    const double u = static_cast<double>((i * 2654435761u + 12345u) % 65536u) / 65536.0;
    ids.push_back(static_cast<int32_t>(std::pow(u, c.skew) * static_cast<double>(c.n_experts)));
  }
  DeviceArray<int32_t> device_ids(n_pairs), pairs(n_pairs), n_tiles(1);
  device_ids.set(ids);
  DeviceArray<ExpertTile> tiles(max_expert_tiles(n_pairs, c.n_experts));
  Quantised codes(c.rows, c.width, block_of(c.gate)), mid_codes(n_pairs, c.hidden, block_of(c.down));
  codes.fill(x.data());
  const TileExperts args{c.gate,       c.down,           gate.planes(),
                         up.planes(),  down.planes(),    {pairs.data(), tiles.data(), n_tiles.data()},
                         codes.view(), mid_codes.view(), weights.data(),
                         10.0f,        mid.data(),       pairs_out.data(),
                         c.n_experts,  c.n_used,         c.width,
                         c.hidden};
  const auto run = [&] {
    mid.poison();
    pairs_out.poison();
    check(plan_experts(device_ids.data(), n_pairs, c.n_experts, args.plan, nullptr), "plan");
    check(tile_experts_mid(args, nullptr), "mid");
    mid_codes.fill(mid.data());
    check(tile_experts_down(args, nullptr), "down");
    check(sum_pairs({pairs_out.data(), x.data(), out.data(), c.rows, c.n_used, c.width}, nullptr), "sum");
    check(cudaDeviceSynchronize(), "experts");
  };
  run();
  check_plan(ids, c.n_experts, pairs.host(), tiles.host(), n_tiles.host()[0]);
  const std::vector<float> first = out.host();
  const double mid_error = worst_swiglu(
      mid.host(),
      reference({c.gate, gate.planes(), codes.view(), c.hidden, c.width, 1, device_ids.data(), c.n_used, n_pairs}),
      reference({c.gate, up.planes(), codes.view(), c.hidden, c.width, 1, device_ids.data(), c.n_used, n_pairs}),
      weights.host(), c.hidden, 10.0f);
  expect(mid_error < 1e-2, "experts mid", c.gate, c.rows, c.hidden, c.width);
  const double down_error =
      worst(pairs_out.host(),
            reference({c.down, down.planes(), mid_codes.view(), c.width, c.hidden, 1, device_ids.data(), 1, n_pairs}));
  expect(down_error < 1e-6, "experts down", c.down, c.rows, c.width, c.hidden);
  std::printf("experts %s/%s, %lld rows: mid %.2g, down %.2g\n", type_name(c.gate), type_name(c.down),
              static_cast<long long>(c.rows), mid_error, down_error);
  const std::vector<float> parts = pairs_out.host(), rows = x.host();
  bool sums_right = true;
  for (int64_t r = 0; r < c.rows; ++r) {
    for (int64_t d = 0; d < c.width; ++d) {
      float sum = 0.0f;
      for (int64_t k = 0; k < c.n_used; ++k) sum += parts[static_cast<size_t>((r * c.n_used + k) * c.width + d)];
      sums_right =
          sums_right && sum + rows[static_cast<size_t>(r * c.width + d)] == first[static_cast<size_t>(r * c.width + d)];
    }
  }
  expect(sums_right, "sum of pairs", c.down, c.rows, c.width, c.hidden);
  run();
  expect(same_bits(first, out.host()), "experts again", c.gate, c.rows, c.hidden, c.width);
}

__global__ void real_reference(RealMatmul args, Dot* out) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= args.n_rows * args.n_out) return;
  Dot sum{0.0, 0.0};
  for (int64_t k = 0; k < args.n_in; ++k) {
    const int64_t at = i % args.n_out * args.n_in + k;
    const auto* halves = reinterpret_cast<const uint16_t*>(args.weight);
    const double w = args.type == WeightType::kF32   ? reinterpret_cast<const float*>(args.weight)[at]
                     : args.type == WeightType::kF16 ? f16(halves[at])
                                                     : bf16(halves[at]);
    const double term = w * args.x[i / args.n_out * args.n_in + k];
    sum.value += term;
    sum.magnitude += fabs(term);
  }
  out[i] = sum;
}

void check_real(WeightType type, int64_t rows, int64_t n_out, int64_t n_in) {
  DeviceArray<float> weight(n_out * n_in), x(rows * n_in), out(rows * n_out);
  fill_floats<<<256, 256>>>(weight.data(), weight.size(), 0.1f, 8);
  if (type != WeightType::kF32) fill_halves<<<256, 256>>>(reinterpret_cast<uint16_t*>(weight.data()), n_out * n_in, 8);
  fill_floats<<<256, 256>>>(x.data(), x.size(), 1.0f, 3);
  DeviceArray<float> parts(real_matmul_parts(n_out, n_in) * out.size());
  DeviceArray<Dot> expected(out.size());
  const RealMatmul args{
      type, reinterpret_cast<const uint8_t*>(weight.data()), x.data(), out.data(), parts.data(), rows, n_out, n_in};
  real_reference<<<static_cast<unsigned>((out.size() + 127) / 128), 128>>>(args, expected.data());
  check(real_matmul(args, nullptr), "real_matmul");
  check(cudaDeviceSynchronize(), "real_matmul");
  const std::vector<float> first = out.host();
  const double error = worst(first, expected.host());
  worst_of_type[static_cast<int>(type)] = std::max(worst_of_type[static_cast<int>(type)], error);
  const double bound = static_cast<double>(n_in) / 8 * 0x1p-24 + 1e-6;
  expect(error < bound, "real product", type, rows, n_out, n_in);
  if (!(error < bound)) std::printf("  error %.3g\n", error);
  out.poison();
  check(real_matmul(args, nullptr), "real_matmul");
  expect(same_bits(first, out.host()), "real repetition", type, rows, n_out, n_in);
}

// Against the codes of the plain kernel, which the 16-row kernels use.
void check_quantize(int64_t rows, int64_t width, int32_t block, float scale) {
  DeviceArray<float> x(rows * width), scales(rows * width / 32);
  DeviceArray<int8_t> codes(rows * width);
  fill_floats<<<256, 256>>>(x.data(), x.size(), scale, 5);
  check(cudaMemset(x.data() + 256, 0, 1024), "zeros");
  check(quantize(x.data(), rows * width, block, codes.data(), scales.data(), nullptr), "quantize");
  Quantised tile(rows, width, block);
  tile.fill(x.data());
  check(cudaDeviceSynchronize(), "quantise");
  bool ok = codes.host() == tile.codes().host();
  const std::vector<float> plain = scales.host(), transposed = tile.scales().host();
  const std::vector<int8_t> bytes = codes.host();
  const std::vector<__half> sums = tile.sums().host();
  for (int64_t r = 0; ok && r < rows; ++r) {
    for (int64_t b = 0; b < width / block; ++b)
      ok = ok &&
           plain[static_cast<size_t>((r * width + b * block) / 32)] == transposed[static_cast<size_t>(b * rows + r)];
    for (int64_t s = 0; block == 256 && s < width / 16; ++s) {
      int sum = 0;
      for (int64_t i = 0; i < 16; ++i) sum += bytes[static_cast<size_t>(r * width + s * 16 + i)];
      ok = ok && static_cast<float>(sum) == __half2float(sums[static_cast<size_t>(r * width / 16 + s)]);
    }
  }
  expect(ok, "quantise", block == 32 ? WeightType::kQ8_0 : WeightType::kQ2_K, rows, width, block);
}

}  // namespace

int run_checks();
int run_checks() {
  for (const int64_t rows : {17, 300}) {
    for (const int32_t block : {32, 256}) {
      check_quantize(rows, 256, block, 1.0f);
      check_quantize(rows, 4096, block, 3.0f);
      check_quantize(rows, 2048, block, 1e-30f);
    }
  }
  for (const WeightType type : kTypes) {
    for (const int64_t rows : {17, 40, 65, 100, 128, 150, 300}) check_dense(type, rows, 256, 1024, 1);
    check_dense(type, 33, 128, 256, 1);
    check_dense(type, 129, 128, 768, 1);
    check_dense(type, 70, 384, 1536, 1);
    check_dense(type, 200, 128, 4096, 1);
    check_dense(type, 90, 512, 512, 4);
    check_swiglu(type, 17, 64, 256);
    check_swiglu(type, 150, 192, 1024);
    std::printf("%s: largest error %.3g of the sum of magnitudes\n", type_name(type),
                worst_of_type[static_cast<int>(type)]);
  }
  check_experts({WeightType::kIQ2_XXS, WeightType::kQ2_K, 300, 16, 6, 512, 256, 2});
  check_experts({WeightType::kIQ2_XXS, WeightType::kQ2_K, 64, 256, 6, 256, 256, 1});
  check_experts({WeightType::kIQ2_XXS, WeightType::kQ2_K, 700, 256, 6, 256, 512, 3});
  check_experts({WeightType::kQ4_K, WeightType::kQ4_K, 100, 12, 3, 512, 512, 2});
  check_experts({WeightType::kMXFP4, WeightType::kMXFP4, 100, 12, 3, 512, 512, 2});
  check_experts({WeightType::kQ8_0, WeightType::kQ8_0, 17, 40, 6, 512, 512, 4});
  check_experts({WeightType::kQ2_K, WeightType::kIQ2_XXS, 33, 40, 6, 512, 512, 1});
  for (const WeightType type : {WeightType::kF16, WeightType::kBF16, WeightType::kF32}) {
    check_real(type, 17, 24, 16384);
    check_real(type, 150, 64, 4096);
    check_real(type, 129, 100, 96);
    check_real(type, 300, 512, 1024);
    std::printf("%s: largest error %.3g of the sum of magnitudes\n", type_name(type),
                worst_of_type[static_cast<int>(type)]);
  }
  std::printf("%d checks, %d failed\n", n_done, n_failed);
  return n_failed == 0 ? 0 : 1;
}

}  // namespace ds4::cuda::bench
