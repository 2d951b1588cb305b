// Decode products on the device: that they agree with the plain kernels, bitwise for every number of rows, and how much
// of the measured read bandwidth they reach at the model's shapes; then all products of a layer as one graph.
//   gemv_bench [check] [speed] [layer]    (all three without arguments; links the kernels and cudart only)

#include <cstring>

#include "bench_device.cuh"

namespace ds4::cuda::bench {
namespace {

constexpr int kD = 4096, kF = 2048, kUsed = 6;
const char* name_of(WeightType type) {
  const char* names[] = {"F32", "F16", "BF16", "Q8_0", "Q2_K", "Q4_K", "IQ2_XXS", "MXFP4"};
  return names[static_cast<int>(type)];
}

int n_failures = 0;
void report(const std::string& what, bool ok, double value) {
  if (!ok) ++n_failures;
  std::printf("%s %s %.2e\n", ok ? "ok    " : "FAILED", what.c_str(), value);
}

// The plain kernels' product.
void plain(const Weight& weight, const float* x, float* out, int n_rows, int n_out, int n_in, int n_groups) {
  const bool real = weight.type == WeightType::kF16 || weight.type == WeightType::kBF16;
  const int64_t n = int64_t{n_rows} * n_in * n_groups;
  Array<int8_t> codes(static_cast<size_t>(n));
  Array<float> scales(static_cast<size_t>(n / 32));
  Activations activations{x, nullptr, nullptr};
  if (!real) {
    const int block = weight.type == WeightType::kQ8_0 || weight.type == WeightType::kMXFP4 ? 32 : 256;
    check(quantize(x, n, block, codes.get(), scales.get(), nullptr), "quantize");
    activations = {x, codes.get(), scales.get()};
  }
  check(matmul({weight, activations, out, n_rows, n_out, n_in, n_groups}, nullptr), "matmul");
  check(cudaDeviceSynchronize(), "plain product");
}

Gemv one_product(const Weight& weight, const float* x, float* out, int n_rows, int n_out, int n_in, int n_groups = 1) {
  Gemv args;
  args.x = x;
  args.n_rows = n_rows;
  args.n_in = n_in;
  args.n_groups = n_groups;
  args.n_products = 1;
  args.products[0] = {weight, {}, out, n_out, GemvFinish::kStore};
  return args;
}

void run(const Gemv& args) {
  check(gemv(args, nullptr), "gemv launch");
  check(cudaDeviceSynchronize(), "gemv");
}

void check_type(WeightType type, int n_in, int n_out, int n_groups) {
  const Matrices matrices(type, n_out, n_in, 1);
  const auto x = floats(size_t{16} * n_in * n_groups, 5);
  const size_t n = size_t{16} * n_out;
  Array<float> expected(n), actual(n), alone(n);
  plain(matrices.at(0), x->get(), expected.get(), 16, n_out, n_in, n_groups);
  actual.poison();
  run(one_product(matrices.at(0), x->get(), actual.get(), 16, n_out, n_in, n_groups));
  const std::string what = std::string(name_of(type)) + " " + std::to_string(n_out) + "x" + std::to_string(n_in) +
                           " groups " + std::to_string(n_groups);
  const std::vector<float> batch = actual.host();
  const double off = distance(batch, expected.host());
  report(what, off < 3e-6, off);
  for (const int rows : {1, 2, 3, 7, 16}) {
    alone.poison();
    const int first = 16 - rows;
    run(one_product(matrices.at(0), x->get() + size_t(first) * n_in * n_groups, alone.get(), rows, n_out, n_in,
                    n_groups));
    const std::vector<float> got = alone.host();
    const bool same = std::memcmp(got.data(), batch.data() + size_t(first) * n_out, size_t(rows) * n_out * 4) == 0;
    if (!same) report(what + ", rows alone: " + std::to_string(rows), false, 0);
  }
}

struct Streams {
  std::unique_ptr<Array<float>> streams, post, comb;
  explicit Streams(int rows)
      : streams(floats(size_t(rows) * 4 * kD, 7)),
        post(floats(size_t(rows) * 4, 8)),
        comb(floats(size_t(rows) * 16, 9)) {}
  GemvExpand args() const { return {streams->get(), post->get(), comb->get()}; }
};

void check_finishes(int rows) {
  const Matrices gate(WeightType::kQ8_0, kF, kD, 1), up(WeightType::kQ8_0, kF + 0, kD, 2),
      router(WeightType::kF16, 256, kD, 1), out_b(WeightType::kQ8_0, kD, 8192, 1);
  const auto x = floats(size_t(rows) * 8192, 3);
  const size_t n = size_t(rows) * kF;
  Array<float> a(n), b(n), actual(n), logits(size_t(rows) * 256), expected_logits(size_t(rows) * 256);
  plain(gate.at(0), x->get(), a.get(), rows, kF, kD, 1);
  plain(up.at(1), x->get(), b.get(), rows, kF, kD, 1);
  check(swiglu(a.get(), b.get(), 7.0f, a.get(), static_cast<int64_t>(n), nullptr), "swiglu");
  plain(router.at(0), x->get(), expected_logits.get(), rows, 256, kD, 1);
  Gemv args = one_product(router.at(0), x->get(), logits.get(), rows, 256, kD);
  args.n_products = 2;
  args.clamp = 7.0f;
  args.products[1] = {gate.at(0), up.at(1), actual.get(), kF, GemvFinish::kSwiglu};
  actual.poison();
  logits.poison();
  run(args);
  double off = distance(actual.host(), a.host());
  report("swiglu, rows " + std::to_string(rows), off < 1e-5, off);
  off = distance(logits.host(), expected_logits.host());
  report("router beside it", off < 3e-6, off);

  const Streams fast(rows), slow(rows);
  Array<float> y(size_t(rows) * kD);
  plain(out_b.at(0), x->get(), y.get(), rows, kD, 8192, 1);
  check(hc_expand({slow.streams->get(), rows, kD, 4}, y.get(), slow.post->get(), slow.comb->get(), nullptr), "expand");
  Gemv expanding = one_product(out_b.at(0), x->get(), y.get(), rows, kD, 8192);
  expanding.products[0].finish = GemvFinish::kExpand;
  expanding.expand = fast.args();
  run(expanding);
  off = distance(fast.streams->host(), slow.streams->host());
  report("expand, rows " + std::to_string(rows), off < 3e-6, off);
}

struct Experts6 {
  Matrices gate, up, down, shared_down;
  Experts6(WeightType type, WeightType down_type, int n_experts, int copies)
      : gate(type, int64_t{n_experts} * kF, kD, copies),
        up(type, int64_t{n_experts} * kF, kD, copies),
        down(down_type, int64_t{n_experts} * kD, kF, copies),
        shared_down(WeightType::kQ8_0, kD, kF, copies) {}
};

void check_experts(WeightType type, WeightType down_type, int rows) {
  constexpr int kExperts = 32;
  const Experts6 w(type, down_type, kExperts, 1);
  const auto x = floats(size_t(rows) * kD, 3), logits = floats(size_t(rows) * kExperts, 4), bias = floats(kExperts, 6),
             shared_mid = floats(size_t(rows) * kF, 11);
  const size_t picks = size_t(rows) * kUsed;
  Array<int32_t> ids(picks), fast_ids(picks);
  Array<float> weights(picks), fast_weights(picks), mid(picks * kF), fast_mid(picks * kF);
  const Router slow_router{logits->get(), bias->get(), nullptr, nullptr,  ids.get(),
                           weights.get(), 1.5f,        rows,    kExperts, kUsed};
  check(router(slow_router, nullptr), "router");
  RoutedUp up;
  up.router = slow_router;
  up.router.ids = fast_ids.get();
  up.router.weights = fast_weights.get();
  up.gate = w.gate.at(0);
  up.up = w.up.at(0);
  up.x = x->get();
  up.mid = fast_mid.get();
  up.n_rows = rows, up.width = kD, up.hidden = kF, up.clamp = 7.0f;
  if (!routed_up_takes(up)) return report("routed up not taken", false, 0);
  fast_mid.poison();
  check(routed_up(up, nullptr), "routed up");
  check(cudaDeviceSynchronize(), "routed up");

  Array<int8_t> codes(size_t(rows) * kD), mid_codes(picks * kF);
  Array<float> scales(size_t(rows) * kD / 32), mid_scales(picks * kF / 32), out(size_t(rows) * kD),
      shared(size_t(rows) * kD);
  const auto block = [](WeightType t) { return t == WeightType::kQ8_0 || t == WeightType::kMXFP4 ? 32 : 256; };
  check(quantize(x->get(), int64_t{rows} * kD, block(type), codes.get(), scales.get(), nullptr), "quantize");
  Experts slow{};
  slow.gate = up.gate, slow.up = up.up, slow.down = w.down.at(0);
  slow.gate_x = slow.up_x = {x->get(), codes.get(), scales.get()};
  slow.ids = ids.get(), slow.weights = weights.get(), slow.clamp = 7.0f, slow.mid = mid.get(), slow.out = out.get();
  slow.n_rows = rows, slow.n_used = kUsed, slow.width = kD, slow.hidden = kF;
  check(experts_mid(slow, nullptr), "mid");
  check(quantize(mid.get(), static_cast<int64_t>(picks) * kF, block(down_type), mid_codes.get(), mid_scales.get(),
                 nullptr),
        "quantize");
  slow.mid_x = {mid.get(), mid_codes.get(), mid_scales.get()};
  check(experts_down(slow, nullptr), "down");
  plain(w.shared_down.at(0), shared_mid->get(), shared.get(), rows, kD, kF, 1);
  check(add(out.get(), shared.get(), out.get(), int64_t{rows} * kD, nullptr), "add");
  const Streams fast(rows), reference(rows);
  check(hc_expand({reference.streams->get(), rows, kD, 4}, out.get(), reference.post->get(), reference.comb->get(),
                  nullptr),
        "expand");
  RoutedDown down;
  down.down = slow.down, down.shared_down = w.shared_down.at(0), down.ids = ids.get(), down.mid = mid.get();
  down.shared_mid = shared_mid->get(), down.expand = fast.args();
  down.n_rows = rows, down.n_used = kUsed, down.width = kD, down.hidden = kF;
  if (!routed_down_takes(down)) return report("routed down not taken", false, 0);
  check(routed_down(down, nullptr), "routed down");
  check(cudaDeviceSynchronize(), "routed down");
  const std::string what = std::string(name_of(type)) + "/" + name_of(down_type) + " rows " + std::to_string(rows);
  report("choice " + what, ids.host() == fast_ids.host() && weights.host() == fast_weights.host(), 0);
  double off = distance(fast_mid.host(), mid.host());
  report("experts up " + what, off < 1e-4, off);
  off = distance(fast.streams->host(), reference.streams->host());
  report("experts down " + what, off < 1e-5, off);
}

void check_all() {
  for (const WeightType type : {WeightType::kQ8_0, WeightType::kF16, WeightType::kBF16, WeightType::kQ4_K,
                                WeightType::kQ2_K, WeightType::kIQ2_XXS, WeightType::kMXFP4}) {
    check_type(type, 4096, 1024, 1);
    check_type(type, 2048, 263, 1);
  }
  check_type(WeightType::kQ8_0, 1024, 4096, 1);
  check_type(WeightType::kF16, 1024, 8192, 1);
  check_type(WeightType::kQ8_0, 8192, 1024, 1);
  check_type(WeightType::kQ8_0, 4096, 8192, 8);
  for (const int rows : {1, 2, 3, 16}) {
    check_finishes(rows);
    check_experts(WeightType::kIQ2_XXS, WeightType::kQ2_K, rows);
  }
  check_experts(WeightType::kQ4_K, WeightType::kQ4_K, 2);
  check_experts(WeightType::kMXFP4, WeightType::kMXFP4, 2);
  check_experts(WeightType::kQ8_0, WeightType::kQ8_0, 2);
  std::printf("%d failures\n", n_failures);
}

__global__ void read_kernel(const uint4* from, size_t n, uint32_t* out) {
  uint32_t sum = 0;
  const size_t step = size_t{gridDim.x} * blockDim.x;
  size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x;
  for (; i + 7 * step < n; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = __ldcs(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) sum ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (sum == 0x12345u) *out = sum;
}

double read_bandwidth() {
  const size_t n = size_t{4} << 30;
  const Array<uint8_t> data(n);
  const Array<uint32_t> out(1);
  fill(data.get(), n, 99, Fill::kBytes);
  double best = 0;
  for (const unsigned blocks : {132u * 2, 132u * 4, 132u * 8}) {
    const double us = replay_us([&](cudaStream_t stream) {
      read_kernel<<<blocks, 512, 0, stream>>>(reinterpret_cast<const uint4*>(data.get()), n / 16, out.get());
    });
    best = std::max(best, static_cast<double>(n) / us * 1e-6);
  }
  return best;
}

struct Shape {
  const char* name;
  WeightType type;
  int n_out, n_in, n_groups;
};

void speed(double bandwidth) {
  const Shape shapes[] = {
      {"q_a", WeightType::kQ8_0, 1024, 4096, 1},         {"q_b", WeightType::kQ8_0, 32768, 1024, 1},
      {"out_a", WeightType::kQ8_0, 8192, 4096, 8},       {"out_b", WeightType::kQ8_0, 4096, 8192, 1},
      {"shared up", WeightType::kQ8_0, 4096, 4096, 1},   {"head", WeightType::kQ8_0, 129280, 4096, 1},
      {"compressors", WeightType::kF16, 2624, 4096, 1},  {"index q_b", WeightType::kF16, 8192, 1024, 1},
      {"IQ2_XXS", WeightType::kIQ2_XXS, 24576, 4096, 1}, {"Q2_K", WeightType::kQ2_K, 24576, 2048, 1},
      {"Q4_K", WeightType::kQ4_K, 24576, 4096, 1},       {"MXFP4", WeightType::kMXFP4, 24576, 4096, 1}};
  std::printf("%-12s %8s | percent of %.2f TB/s and us at 1, 2, 4, 8, 16 rows\n", "product", "MB", bandwidth);
  for (const Shape& shape : shapes) {
    const int64_t bytes = weight_planes(shape.type, shape.n_out, shape.n_in).size_bytes;
    const int copies = static_cast<int>(std::max<int64_t>((int64_t{400} << 20) / bytes, 2));
    const Matrices w(shape.type, shape.n_out, shape.n_in, copies);
    const auto x = floats(size_t{16} * shape.n_in * shape.n_groups, 1);
    const Array<float> out(size_t{16} * shape.n_out);
    std::printf("%-12s %8.2f |", shape.name, bytes * 1e-6);
    for (const int rows : {1, 2, 4, 8, 16}) {
      const int launches = std::max(copies, 8);
      const double us =
          replay_us([&](cudaStream_t stream) {
            for (int i = 0; i < launches; ++i)
              check(gemv(one_product(w.at(i), x->get(), out.get(), rows, shape.n_out, shape.n_in, shape.n_groups),
                         stream),
                    "gemv");
          }) /
          launches;
      std::printf(" %5.1f%% %7.2f", bytes / us * 1e-6 / bandwidth * 100, us);
    }
    std::printf("\n");
  }
}

// All products of a layer with ratio 4, one after the other as a token meets them.
struct Layer {
  static constexpr int kExperts = 64;
  static constexpr int kCopies = 6;
  Matrices q_a{WeightType::kQ8_0, 1024, kD, kCopies}, kv{WeightType::kQ8_0, 512, kD, kCopies},
      comp{WeightType::kF16, 1024, kD, 2 * kCopies}, index_comp{WeightType::kF16, 256, kD, 2 * kCopies},
      index_proj{WeightType::kF16, 64, kD, kCopies}, q_b{WeightType::kQ8_0, 32768, 1024, kCopies},
      out_a{WeightType::kQ8_0, 8192, 4096, kCopies}, out_b{WeightType::kQ8_0, kD, 8192, kCopies},
      router{WeightType::kF16, 256, kD, kCopies}, shared{WeightType::kQ8_0, kF, kD, 2 * kCopies};
  Experts6 experts{WeightType::kIQ2_XXS, WeightType::kQ2_K, kExperts, kCopies};
  std::unique_ptr<Array<float>> x = floats(size_t{16} * 32768, 1), logits = floats(size_t{16} * kExperts, 2);
  Array<float> out{size_t{16} * 32768 * 2}, mid{size_t{16} * kUsed * kF}, weights{16 * kUsed};
  Array<int32_t> ids{16 * kUsed};
  Streams streams{16};

  Gemv list(int rows, int n_in) const {
    Gemv args;
    args.x = x->get();
    args.n_rows = rows;
    args.n_in = n_in;
    return args;
  }
  static void put(Gemv& args, const Weight& weight, float* to, int n_out, GemvFinish finish = GemvFinish::kStore,
                  Weight up = {}) {
    args.products[args.n_products++] = {weight, up, to, n_out, finish};
  }

  void step(int part, int i, int rows, cudaStream_t stream) const {
    Gemv args = list(rows, part == 1 ? 1024 : part == 3 ? 8192 : kD);
    args.clamp = 7.0f;
    args.expand = streams.args();
    float* to = out.get();
    switch (part) {
      case 0:
        put(args, q_a.at(i), to, 1024);
        put(args, kv.at(i), to + (1 << 16), 512);
        put(args, comp.at(2 * i), to + (2 << 16), 1024);
        put(args, comp.at(2 * i + 1), to + (3 << 16), 1024);
        put(args, index_comp.at(2 * i), to + (4 << 16), 256);
        put(args, index_comp.at(2 * i + 1), to + (5 << 16), 256);
        put(args, index_proj.at(i), to + (6 << 16), 64);
        break;
      case 1: put(args, q_b.at(i), to, 32768); break;
      case 2:
        args.n_groups = 8;
        put(args, out_a.at(i), to, 8192);
        break;
      case 3: put(args, out_b.at(i), nullptr, kD, GemvFinish::kExpand); break;
      case 4:
        put(args, router.at(i), to, 256);
        put(args, shared.at(2 * i), to + (1 << 16), kF, GemvFinish::kSwiglu, shared.at(2 * i + 1));
        break;
      case 5: return up(i, rows, stream);
      default: return down(i, rows, stream);
    }
    check(gemv(args, stream), "gemv");
  }
  void up(int i, int rows, cudaStream_t stream) const {
    RoutedUp args;
    args.router = {logits->get(), nullptr, nullptr, nullptr, ids.get(), weights.get(), 1.5f, rows, kExperts, kUsed};
    args.gate = experts.gate.at(i), args.up = experts.up.at(i), args.x = x->get(), args.mid = mid.get();
    args.n_rows = rows, args.width = kD, args.hidden = kF, args.clamp = 7.0f;
    check(routed_up(args, stream), "routed up");
  }
  void down(int i, int rows, cudaStream_t stream) const {
    RoutedDown args;
    args.down = experts.down.at(i), args.shared_down = experts.shared_down.at(i), args.ids = ids.get();
    args.mid = mid.get(), args.shared_mid = out.get() + (1 << 16), args.expand = streams.args();
    args.n_rows = rows, args.n_used = kUsed, args.width = kD, args.hidden = kF;
    check(routed_down(args, stream), "routed down");
  }
  // Experts: as if every pick were another one.
  double bytes(int part, int rows) const {
    const double picked = static_cast<double>(std::min(rows * kUsed, kExperts)) / kExperts;
    switch (part) {
      case 0: return 1.0 * q_a.bytes() + kv.bytes() + 2 * comp.bytes() + 2 * index_comp.bytes() + index_proj.bytes();
      case 1: return q_b.bytes();
      case 2: return out_a.bytes();
      case 3: return out_b.bytes();
      case 4: return 1.0 * router.bytes() + 2 * shared.bytes();
      case 5: return picked * (experts.gate.bytes() + experts.up.bytes());
      default: return picked * experts.down.bytes() + experts.shared_down.bytes();
    }
  }
};

void layer(double bandwidth) {
  const Layer l;
  const char* names[] = {"project", "q_b", "out_a", "out_b+expand", "router+shared", "experts up", "down+expand"};
  constexpr int kLayers = 12;
  for (const int rows : {1, 2, 4, 8, 16}) {
    double sum = 0, bytes = 0;
    std::printf("rows %2d:", rows);
    for (int part = 0; part < 7; ++part) {
      const double us = replay_us([&](cudaStream_t stream) {
                          for (int i = 0; i < kLayers; ++i) l.step(part, i, rows, stream);
                        }) /
                        kLayers;
      std::printf(" %s %.2f us %.0f%%;", names[part], us, l.bytes(part, rows) / us * 1e-6 / bandwidth * 100);
      sum += us;
      bytes += l.bytes(part, rows);
    }
    const double us = replay_us([&](cudaStream_t stream) {
                        for (int i = 0; i < kLayers; ++i) {
                          for (int part = 0; part < 7; ++part) l.step(part, i, rows, stream);
                        }
                      }) /
                      kLayers;
    std::printf("\n  layer %.2f us (parts alone %.2f), %.1f MB, %.0f%% of read bandwidth, %.2f us an edge above it\n",
                us, sum, bytes * 1e-6, bytes / us * 1e-6 / bandwidth * 100, (us - bytes / bandwidth * 1e-6) / 7);
  }
}

}  // namespace
}  // namespace ds4::cuda::bench

int main(int argc, char** argv) {
  using namespace ds4::cuda::bench;
  const auto wants = [&](const char* what) {
    return argc < 2 || std::any_of(argv + 1, argv + argc, [&](const char* arg) { return std::strcmp(arg, what) == 0; });
  };
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf("%s, %d multiprocessors\n", properties.name, properties.multiProcessorCount);
  if (wants("check")) check_all();
  if (wants("speed") || wants("layer")) {
    const double bandwidth = read_bandwidth();
    std::printf("read bandwidth %.3f TB/s\n", bandwidth);
    if (wants("speed")) speed(bandwidth);
    if (wants("layer")) layer(bandwidth);
  }
  return n_failures == 0 ? 0 : 1;
}
