#pragma once

// What attention_bench.cu measures on: device arrays with random contents, timing by graph replays, and the KV memory
// of several sequences at the shapes of Flash.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/kv_rows.cuh"

namespace ds4::cuda {
namespace {

constexpr int kHeads = 64, kRow = 512, kIndexWidth = 128, kTopK = 512, kWindow = 128, kSlots = 17, kMaxContext = 106496;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::printf("FAILED %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
struct Array {
  explicit Array(size_t n) : n(n) {
    check(cudaMalloc(&data, n * sizeof(T)), "cudaMalloc");
    poison();
  }
  ~Array() { (void)cudaFree(data); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  void poison() { check(cudaMemset(data, 0xFF, n * sizeof(T)), "memset"); }
  void set(const std::vector<T>& v) {
    check(cudaMemcpy(data, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice), "set");
  }
  std::vector<T> host() const {
    std::vector<T> v(n);
    check(cudaMemcpy(v.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost), "get");
    return v;
  }
  T* data = nullptr;
  size_t n;
};

__device__ float random_value(uint64_t i) {
  i = (i ^ (i >> 31)) * 0x9E3779B97F4A7C15ull;
  i = (i ^ (i >> 29)) * 0xBF58476D1CE4E5B9ull;
  return static_cast<float>(static_cast<uint32_t>(i >> 32)) * 0x1p-31f - 1.0f;
}
__global__ void fill_floats(float* to, size_t n, uint64_t seed, float scale) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x)
    to[i] = random_value(i + seed * 0x300000001ull) * scale;
}
__global__ void fill_halves(uint16_t* to, size_t n, uint64_t seed, float scale) {
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x)
    to[i] = to_f16(random_value(i + seed * 0x300000001ull) * scale);
}
// Rows of a format: block (i, unit) makes row i of the unit.
__global__ void fill_rows(uint8_t* to, int64_t unit_bytes, KvFormat format, uint64_t seed) {
  __shared__ float x[kRow];
  const uint64_t at = (uint64_t{blockIdx.y} * gridDim.x + blockIdx.x) * format.width + seed * 0x500000001ull;
  for (int i = threadIdx.x; i < format.width; i += blockDim.x) x[i] = 2.0f * random_value(at + i);
  __syncthreads();
  pack_kv_row(x, format, to + blockIdx.y * unit_bytes + int64_t{blockIdx.x} * format.row_bytes);
}
void fill(float* to, size_t n, uint64_t seed, float scale = 1.0f) { fill_floats<<<512, 256>>>(to, n, seed, scale); }

// Microseconds of one call inside a graph of 20: the median of seven replays.
double time_us(const std::function<void(cudaStream_t)>& enqueue, int n_calls = 20) {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  enqueue(stream);
  check(cudaStreamSynchronize(stream), "warm-up");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < n_calls; ++i) enqueue(stream);
  check(cudaStreamEndCapture(stream, &graph), "capture");
  check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  cudaEvent_t begin, end;
  check(cudaEventCreate(&begin), "event");
  check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < 7; ++i) {
    check(cudaEventRecord(begin, stream), "record");
    check(cudaGraphLaunch(exec, stream), "replay");
    check(cudaEventRecord(end, stream), "record");
    check(cudaEventSynchronize(end), "replay");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin, end), "time");
    times.push_back(ms);
  }
  std::ranges::sort(times);
  (void)cudaGraphExecDestroy(exec);
  (void)cudaGraphDestroy(graph);
  (void)cudaStreamDestroy(stream);
  return 1000.0 * times[times.size() / 2] / n_calls;
}

int64_t round_up(int64_t n) { return (n + 63) / 64 * 64; }

// KV memory of 17 sequences of any length, every row written.
struct World {
  int ratio;
  Window window{};
  Compressor attention{}, indexer{};
  KvPages kv{};
  int64_t n_pages;
  Array<uint8_t> frontiers, pages;
  Array<int32_t> table;

  static int64_t place(Compressor& c, int ratio, const KvFormat& format, int64_t& frontier, int64_t& page) {
    c.ratio = ratio;
    c.n_lanes = ratio == 4 ? 2 : 1;
    c.ring_rows = c.n_lanes * ratio;
    c.format = format;
    const int64_t ring = round_up(int64_t{4} * c.ring_rows * c.n_lanes * format.width);
    c.kv_ring_offset = frontier;
    c.score_ring_offset = frontier + ring;
    frontier += 2 * ring;
    c.page_offset = page;
    page += round_up(int64_t{256 / ratio} * format.row_bytes);
    return page;
  }
  static int64_t frontier_size(int ratio) {
    Compressor a, i;
    int64_t f = round_up(kWindow * 584), p = 0;
    place(a, ratio, {kRowFp8, kRow, 64, 584}, f, p);
    place(i, 4, {kRowFp4, kIndexWidth, 64, 68}, f, p);
    return f;
  }
  static int64_t page_size(int ratio) {
    Compressor a, i;
    int64_t f = 0, p = 0;
    place(a, ratio, {kRowFp8, kRow, 64, 584}, f, p);
    return place(i, 4, {kRowFp4, kIndexWidth, 64, 68}, f, p);
  }
  explicit World(int ratio)
      : ratio(ratio),
        n_pages(int64_t{kSlots} * (kMaxContext / 256)),
        frontiers(kSlots * frontier_size(ratio)),
        pages(n_pages * page_size(ratio)),
        table(n_pages) {
    int64_t f = round_up(kWindow * 584), p = 0;
    place(attention, ratio, {kRowFp8, kRow, 64, 584}, f, p);
    place(indexer, 4, {kRowFp4, kIndexWidth, 64, 68}, f, p);
    window = {nullptr, {kRowFp8, kRow, 64, 584}, kWindow, 0};
    kv = {frontiers.data, f, pages.data, p, table.data, kMaxContext / 256};
    fill(reinterpret_cast<float*>(frontiers.data), frontiers.n / 4, 3, 2.0f);
    fill_rows<<<dim3(kWindow, kSlots), 128>>>(frontiers.data, f, window.format, 5);
    for (int64_t first = 0; first < n_pages; first += 32768) {
      const auto n = static_cast<unsigned>(std::min<int64_t>(32768, n_pages - first));
      uint8_t* at = pages.data + first * p;
      fill_rows<<<dim3(256 / ratio, n), 128>>>(at, p, attention.format, 100 + first);
      fill_rows<<<dim3(64, n), 128>>>(at + indexer.page_offset, p, indexer.format, 9000 + first);
    }
    std::vector<int32_t> order(n_pages);
    for (int64_t i = 0; i < n_pages; ++i) order[i] = static_cast<int32_t>(i * 7919 % n_pages);
    table.set(order);
    check(cudaDeviceSynchronize(), "world");
  }
};

struct Stretch {
  int slot, position, n;
};
std::vector<RowPlace> places_of(const std::vector<Stretch>& stretches) {
  std::vector<RowPlace> places;
  for (const Stretch& s : stretches) {
    const auto first = static_cast<int32_t>(places.size());
    for (int i = 0; i < s.n; ++i) places.push_back({s.slot, s.position + i, first, s.position, s.position + s.n});
  }
  return places;
}
// A batch with random queries, and attention over it.
struct Batch {
  std::vector<RowPlace> rows;
  int64_t n;
  Array<RowPlace> places;
  Array<int32_t> positions, selected, n_selected;
  Array<float> query, out, sinks, frequencies, index_query, index_weights;
  Array<uint8_t> window_rows;

  Batch(const World& world, const std::vector<Stretch>& stretches, uint64_t seed)
      : rows(places_of(stretches)),
        n(static_cast<int64_t>(rows.size())),
        places(n),
        positions(n),
        selected(n * kTopK),
        n_selected(n),
        query(n * kHeads * kRow),
        out(n * kHeads * kRow),
        sinks(kHeads),
        frequencies(32),
        index_query(n * kHeads * kIndexWidth),
        index_weights(n * kHeads),
        window_rows(n * 584) {
    places.set(rows);
    std::vector<int32_t> p, ids(n * kTopK, 0x7FFFFFFF), counts;
    for (int64_t r = 0; r < n; ++r) {
      p.push_back(rows[r].position);
      const int visible = (rows[r].position + 1) / world.ratio;
      const int count = std::min(visible, kTopK);
      for (int i = 0; i < count; ++i) ids[r * kTopK + i] = static_cast<int32_t>(int64_t{i} * visible / count);
      counts.push_back(count);
    }
    positions.set(p);
    selected.set(ids);
    n_selected.set(counts);
    fill(query.data, query.n, seed + 1);
    fill(sinks.data, kHeads, seed + 2);
    std::vector<float> f(32);
    for (int i = 0; i < 32; ++i) f[i] = 1.0f / std::pow(10000.0f, static_cast<float>(2 * i) / 64.0f);
    frequencies.set(f);
    fill(index_query.data, index_query.n, seed + 3);
    check(index_round(index_query.data, n * kHeads, kIndexWidth, 0.08838834764f, nullptr), "index_round");
    fill(index_weights.data, index_weights.n, seed + 4);
    fill_rows<<<dim3(static_cast<unsigned>(n)), 128>>>(window_rows.data, 0, world.window.format, seed + 5);
    check(cudaDeviceSynchronize(), "batch");
  }
  Attention attention(const World& world, bool selects) const {
    Attention a;
    a.query = query.data;
    a.sinks = sinks.data;
    a.window = world.window;
    a.window.rows = window_rows.data;
    a.ratio = world.ratio;
    a.compressor = world.attention;
    a.selected = selects ? selected.data : nullptr;
    a.n_selected = selects ? n_selected.data : nullptr;
    a.top_k = selects ? kTopK : 0;
    a.places = places.data;
    a.n_rows = n;
    a.n_heads = kHeads;
    a.out = out.data;
    a.memory = world.kv;
    return a;
  }
};

}  // namespace
}  // namespace ds4::cuda
