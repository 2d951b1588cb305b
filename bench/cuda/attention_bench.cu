// Checks and times the CUDA kernels around the weight products at the shapes of Flash, without any library of the
// project but the kernels: attention, selection, stream mixing, latents, arg-max. References: the plain kernels of the
// same backend, or double arithmetic on the host. Times are of graph replays of 20 launches that may overlap.
//   nvcc -std=c++20 -O3 -fmad=false -arch=sm_90a -Isrc bench/cuda/attention_bench.cu src/backends/cuda/kernels/*.cu

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>

#include "attention_world.cuh"

namespace ds4::cuda {
namespace {

int n_failed = 0;

void expect(bool is_good, const char* what, double value) {
  std::printf("%s %-44s %.3g\n", is_good ? "ok    " : "WRONG ", what, value);
  std::fflush(stdout);
  n_failed += is_good ? 0 : 1;
}

__global__ void read_kernel(const uint4* x, size_t n, uint4* out) {
  uint4 sum = make_uint4(0, 0, 0, 0);
  for (size_t i = blockIdx.x * size_t{blockDim.x} + threadIdx.x; i < n; i += size_t{gridDim.x} * blockDim.x) {
    const uint4 v = __ldg(x + i);
    sum.x ^= v.x ^ v.y ^ v.z ^ v.w;
  }
  if (sum.x == 1) *out = sum;
}
int64_t bound_of(const std::vector<Stretch>& stretches, int ratio) {
  int64_t n = 64, most = 0;
  for (const Stretch& s : stretches) most = std::max<int64_t>(most, (s.position + s.n) / ratio);
  while (n < most) n *= 2;
  return n;
}

struct Scratch {
  Array<float> sums, tops;
  Array<uint16_t> rows;
  Scratch() : sums(size_t{160} << 20), tops(size_t{1} << 20), rows(size_t{512} * 48000) {}
};

Attend attend_of(const Batch& batch, const World& world, bool selects, int64_t bound, const Scratch& scratch) {
  Attend a;
  a.attention = batch.attention(world, selects);
  a.frequencies = batch.frequencies.data;
  a.n_frequencies = 32;
  a.compressed_bound = selects ? std::min<int64_t>(bound, kTopK) : bound;
  a.appends = true;
  a.sums = scratch.sums.data;
  a.tops = scratch.tops.data;
  return a;
}

AttendPrompt prompt_of(const Attend& attend, const Batch& batch, int first_row, const Scratch& scratch) {
  AttendPrompt p;
  p.attend = attend;
  p.span = batch.rows[first_row];
  p.first_row = first_row;
  p.n_rows = batch.n - first_row;
  p.n_compressed = batch.rows.back().end_position / attend.attention.ratio;
  p.rows = scratch.rows.data;
  return p;
}

double worst(const std::vector<float>& a, const std::vector<float>& b, size_t first = 0) {
  double most = 0;
  for (size_t i = first; i < a.size(); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    most = std::isnan(d) ? 1e30 : std::max(most, d);
  }
  return most;
}

template <class T>
double differing(const std::vector<T>& a, const std::vector<T>& b) {
  double n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += std::memcmp(&a[i], &b[i], sizeof(T)) != 0 ? 1 : 0;
  return n;
}

void plain_attend(const Batch& batch, const World& world, bool selects) {
  const Attention a = batch.attention(world, selects);
  check(attention(a, nullptr), "attention");
  check(window_append(a.window, a.places, a.n_rows, a.memory, nullptr), "window_append");
  check(rope({batch.out.data, batch.positions.data, batch.frequencies.data, batch.n, kHeads, kRow, 32, true}, nullptr),
        "rope");
  check(cudaDeviceSynchronize(), "plain attention");
}

void check_attention(World& world, const std::vector<Stretch>& stretches, bool selects, const Scratch& scratch) {
  Batch batch(world, stretches, 77 + stretches[0].position);
  const std::vector<uint8_t> before = world.frontiers.host();
  plain_attend(batch, world, selects);
  const std::vector<float> expected = batch.out.host();
  const std::vector<uint8_t> rings = world.frontiers.host();
  world.frontiers.set(before);
  batch.out.poison();
  const Attend a = attend_of(batch, world, selects, bound_of(stretches, world.ratio), scratch);
  char name[96];
  std::snprintf(name, sizeof(name), "at %d x %d of %zu, ratio %d%s", stretches[0].position, stretches[0].n,
                stretches.size(), world.ratio, selects ? " selected" : "");
  std::vector<float> first;
  if (batch.n <= 64) {
    check(attend(a, nullptr), "attend");
    check(cudaDeviceSynchronize(), "attend");
    first = batch.out.host();
    expect(worst(expected, first) < 2e-5, name, worst(expected, first));
    expect(differing(rings, world.frontiers.host()) == 0, "  rings", differing(rings, world.frontiers.host()));
    world.frontiers.set(before);
    check(attend(a, nullptr), "attend");
  }
  const std::vector<float> again = batch.out.host();
  if (batch.n <= 64) expect(differing(first, again) == 0, "  repeated bitwise", differing(first, again));
  world.frontiers.set(before);
  if (stretches.size() > 1 || stretches[0].position + stretches[0].n <= kWindow) return;
  const int first_row = std::max(0, kWindow - 1 - stretches[0].position);
  batch.out.poison();
  check(attend_prompt(prompt_of(a, batch, first_row, scratch), nullptr), "attend_prompt");
  check(cudaDeviceSynchronize(), "attend_prompt");
  const std::vector<float> prompt = batch.out.host();
  const double error = worst(expected, prompt, size_t(first_row) * kHeads * kRow);
  expect(error < 1e-3, "  as a prompt", error);
  check(attend_prompt(prompt_of(a, batch, first_row, scratch), nullptr), "attend_prompt");
  expect(differing(prompt, batch.out.host()) == 0, "  as a prompt, repeated bitwise",
         differing(prompt, batch.out.host()));
}

struct Selection {
  Array<float> scores;
  Array<uint16_t> prepared;
  Array<int32_t> selected, n_selected;
  explicit Selection(int64_t n) : scores(size_t{72} << 20), prepared(n * 8192), selected(n * kTopK), n_selected(n) {}
};
IndexSelect select_of(const Batch& batch, const World& world, int64_t bound, const Selection& s) {
  IndexSelect a;
  a.query = batch.index_query.data;
  a.weights = batch.index_weights.data;
  a.weight_scale = 1.0f / std::sqrt(128.0f * 64.0f);
  a.indexer = world.indexer;
  a.places = batch.places.data;
  a.n_rows = batch.n;
  a.n_heads = kHeads;
  a.top_k = kTopK;
  a.max_visible = bound;
  a.scores = s.scores.data;
  a.selected = s.selected.data;
  a.n_selected = s.n_selected.data;
  a.memory = world.kv;
  return a;
}

void check_select(const World& world, const std::vector<Stretch>& stretches, bool are_zero) {
  Batch batch(world, stretches, 99);
  if (are_zero) check(cudaMemset(batch.index_query.data, 0, batch.index_query.n * 4), "zero");
  Selection s(batch.n), t(batch.n);
  const int64_t bound = bound_of(stretches, 4);
  check(index_select(select_of(batch, world, bound, s), nullptr), "index_select");
  check(index_select_rounded(select_of(batch, world, bound, t), t.prepared.data, nullptr), "index_select_rounded");
  check(cudaDeviceSynchronize(), "index_select");
  const std::vector<int32_t> a = s.selected.host(), b = t.selected.host(), n = t.n_selected.host();
  double wrong = differing(s.n_selected.host(), n);
  for (int64_t r = 0; r < batch.n; ++r) {
    for (int i = 0; i < n[r]; ++i)  // those that the other has not
      wrong += std::binary_search(a.begin() + r * kTopK, a.begin() + r * kTopK + n[r], b[r * kTopK + i]) ? 0 : 1;
    for (int i = 1; i < n[r]; ++i) wrong += b[r * kTopK + i] > b[r * kTopK + i - 1] ? 0 : 1000;
  }
  char name[96];
  std::snprintf(name, sizeof(name), "select at %d x %d of %zu%s", stretches[0].position, stretches[0].n,
                stretches.size(), are_zero ? ", all equal" : "");
  expect(wrong <= (are_zero ? 0 : 2 + batch.n / 20.0), name, wrong);  // scores next to the last may differ in rounding
  check(index_select_rounded(select_of(batch, world, bound, t), t.prepared.data, nullptr), "index_select_rounded");
  expect(differing(b, t.selected.host()) == 0, "  repeated bitwise", differing(b, t.selected.host()));
}

// A row alone against the same in a batch, through every number of head groups that share unpacked rows.
void check_alone(World& w, bool selects, int n, const Scratch& scratch) {
  std::vector<Stretch> stretches;
  for (int i = 0; i < n; ++i) stretches.push_back({i % kSlots, 100 + 173 * i, 1});
  Batch batch(w, stretches, 7);
  Attend a = attend_of(batch, w, selects, bound_of(stretches, w.ratio), scratch);
  a.appends = false;
  check(attend(a, nullptr), "attend");
  const std::vector<float> all = batch.out.host();
  const size_t row_values = size_t{kHeads} * kRow;
  double other = 0;
  for (const int row : {0, n / 2, n - 1}) {
    Attend one = a;
    one.attention.query += row * row_values;
    one.attention.places += row;
    one.attention.n_rows = 1;
    if (selects) {
      one.attention.selected += row * kTopK;
      one.attention.n_selected += row;
    }
    check(attend(one, nullptr), "attend");
    const std::vector<float> out = batch.out.host();
    for (size_t i = 0; i < row_values; ++i) other += out[i] == all[row * row_values + i] ? 0 : 1;
  }
  expect(other == 0, "  a row alone is bitwise the row in a batch", other);
}

struct Mixer {
  int64_t n;
  Array<float> streams, scale, base, norm, pre, post, comb, out;
  Array<uint16_t> fn;
  explicit Mixer(int64_t n)
      : n(n),
        streams(n * 16384),
        scale(3),
        base(24),
        norm(4096),
        pre(n * 4),
        post(n * 4),
        comb(n * 16),
        out(n * 4096),
        fn(24 * 16384) {
    fill(streams.data, streams.n, 1, 5.0f);
    fill(scale.data, 3, 2, 0.5f);
    fill(base.data, 24, 3);
    fill(norm.data, 4096, 4, 2.0f);
    fill_halves<<<64, 256>>>(fn.data, fn.n, 5, 0.1f);
  }
  SublayerInput args() const {
    return {streams.data, fn.data,  scale.data, base.data, norm.data, pre.data, post.data,
            comb.data,    out.data, 1e-6f,      1e-6f,     20,        n,        4096};
  }
};

double half_value(uint16_t bits) {
  __half h;
  std::memcpy(&h, &bits, 2);
  return static_cast<double>(__half2float(h));
}

// In double; comb too.
void reference_row(const Mixer& m, const std::vector<float>& x, const std::vector<uint16_t>& fn,
                   std::vector<double>& mix, std::vector<double>& out) {
  const std::vector<float> scale = m.scale.host(), base = m.base.host(), norm = m.norm.host();
  double squares = 0;
  for (int i = 0; i < 16384; ++i) squares += double(x[i]) * x[i];
  const double r = 1 / std::sqrt(squares / 16384 + 1e-6);
  mix.assign(24, 0);
  for (int o = 0; o < 24; ++o) {
    for (int i = 0; i < 16384; ++i) mix[o] += half_value(fn[o * 16384 + i]) * x[i] * r;
    mix[o] = mix[o] * scale[o < 4 ? 0 : o < 8 ? 1 : 2] + base[o];
    if (o < 8) mix[o] = (o < 4 ? 1 : 2) / (1 + std::exp(-mix[o])) + (o < 4 ? 1e-6 : 0);
  }
  double* c = mix.data() + 8;
  for (int a = 0; a < 4; ++a) {
    double sum = 0;
    for (int b = 0; b < 4; ++b) sum += c[4 * a + b] = std::exp(c[4 * a + b]);
    for (int b = 0; b < 4; ++b) c[4 * a + b] = c[4 * a + b] / sum + 1e-6;
  }
  const auto normalise = [&](int along, int across) {
    for (int line = 0; line < 4; ++line) {
      double sum = 1e-6;
      for (int i = 0; i < 4; ++i) sum += c[line * across + i * along];
      for (int i = 0; i < 4; ++i) c[line * across + i * along] /= sum;
    }
  };
  for (int i = 0; i < 20; ++i) {
    if (i > 0) normalise(1, 4);
    normalise(4, 1);
  }
  out.assign(4096, 0);
  squares = 0;
  for (int d = 0; d < 4096; ++d) {
    for (int s = 0; s < 4; ++s) out[d] += mix[s] * x[s * 4096 + d];
    squares += out[d] * out[d];
  }
  for (int d = 0; d < 4096; ++d) out[d] *= norm[d] / std::sqrt(squares / 4096 + 1e-6);
}

void check_mixer(int64_t n) {
  Mixer m(n);
  check(sublayer_input(m.args(), nullptr), "sublayer_input");
  check(cudaDeviceSynchronize(), "sublayer_input");
  const std::vector<float> x = m.streams.host(), out = m.out.host(), pre = m.pre.host(), post = m.post.host(),
                           comb = m.comb.host();
  const std::vector<uint16_t> fn = m.fn.host();
  double error = 0, mix_error = 0;
  for (const int64_t row : {int64_t{0}, n / 2, n - 1}) {
    std::vector<double> mix, want;
    reference_row(m, {x.begin() + row * 16384, x.begin() + (row + 1) * 16384}, fn, mix, want);
    for (int i = 0; i < 24; ++i) {
      const float got = i < 4 ? pre[row * 4 + i] : i < 8 ? post[row * 4 + i - 4] : comb[row * 16 + i - 8];
      mix_error = std::max(mix_error, std::isnan(got) ? 1e30 : std::fabs(got - mix[i]));
    }
    for (int d = 0; d < 4096; ++d)
      error = std::max(error, std::isnan(out[row * 4096 + d]) ? 1e30 : std::fabs(out[row * 4096 + d] - want[d]));
  }
  char name[64];
  std::snprintf(name, sizeof(name), "sublayer_input of %d rows: out", static_cast<int>(n));
  expect(error < 2e-5, name, error);
  expect(mix_error < 4e-6, "  gates and mixing", mix_error);
  check(sublayer_input(m.args(), nullptr), "sublayer_input");
  expect(differing(out, m.out.host()) + differing(comb, m.comb.host()) == 0, "  repeated bitwise", 0);
}

struct LatentData {
  int64_t n;
  Array<float> q, kv, q_norm, kv_norm, ckv, cscore, ape, cnorm, ikv, iscore, iape, inorm;
  LatentData(int64_t n, const World& w)
      : n(n),
        q(n * 1024),
        kv(n * 512),
        q_norm(1024),
        kv_norm(512),
        ckv(n * 1024),
        cscore(n * 1024),
        ape(128 * 1024),
        cnorm(512),
        ikv(n * 256),
        iscore(n * 256),
        iape(4 * 256),
        inorm(128) {
    uint64_t seed = 40;
    for (Array<float>* a : {&q, &kv, &q_norm, &kv_norm, &ckv, &cscore, &ape, &cnorm, &ikv, &iscore, &iape, &inorm})
      fill(a->data, a->n, seed++, 2.0f);
  }
  Latents args(const Batch& batch, const World& w) const {
    Latents l;
    l.q_lora = q.data;
    l.kv = kv.data;
    l.q_norm = q_norm.data;
    l.kv_norm = kv_norm.data;
    l.frequencies = batch.frequencies.data;
    l.n_frequencies = 32;
    l.q_width = 1024;
    l.rms_epsilon = 1e-6f;
    l.format = w.window.format;
    l.window_rows = batch.window_rows.data;
    l.n_compressions = w.ratio == 4 ? 2 : 1;
    l.compressions[0] = {
        ckv.data,    cscore.data,       ape.data, cnorm.data, batch.frequencies.data, 1e-6f, 0.04419417382f, 32,
        w.attention, batch.places.data, n,        w.kv};
    l.compressions[1] = {
        ikv.data,  iscore.data,       iape.data, inorm.data, batch.frequencies.data, 1e-6f, 0.08838834764f, 32,
        w.indexer, batch.places.data, n,         w.kv};
    l.places = batch.places.data;
    l.n_rows = n;
    return l;
  }
};

void check_latents(World& w, const std::vector<Stretch>& stretches) {
  Batch batch(w, stretches, 5);
  LatentData data(batch.n, w);
  const Latents l = data.args(batch, w);
  const std::vector<float> q = data.q.host(), kv = data.kv.host();
  const std::vector<uint8_t> frontiers = w.frontiers.host(), pages = w.pages.host();
  check(rms_norm({l.q_lora, l.q_norm, 1e-6f, l.q_lora, l.n_rows, 1024}, nullptr), "rms_norm");
  check(rms_norm({l.kv, l.kv_norm, 1e-6f, l.kv, l.n_rows, 512}, nullptr), "rms_norm");
  check(rope({l.kv, batch.positions.data, l.frequencies, l.n_rows, 1, 512, 32, false}, nullptr), "rope");
  check(kv_pack(l.kv, l.format, l.window_rows, l.n_rows, nullptr), "kv_pack");
  for (int i = 0; i < l.n_compressions; ++i) check(compress(l.compressions[i], nullptr), "compress");
  check(cudaDeviceSynchronize(), "plain latents");
  const std::vector<float> want_q = data.q.host(), want_kv = data.kv.host();
  const std::vector<uint8_t> want_rows = batch.window_rows.host(), want_f = w.frontiers.host(), want_p = w.pages.host();
  data.q.set(q);
  data.kv.set(kv);
  w.frontiers.set(frontiers);
  w.pages.set(pages);
  batch.window_rows.poison();
  check(latents(l, nullptr), "latents");
  check(cudaDeviceSynchronize(), "latents");
  char name[64];
  std::snprintf(name, sizeof(name), "latents at %d x %d of %zu, ratio %d", stretches[0].position, stretches[0].n,
                stretches.size(), w.ratio);
  const double error = std::max(worst(want_q, data.q.host()), worst(want_kv, data.kv.host()));
  expect(error < 1e-5, name, error);
  expect(differing(want_rows, batch.window_rows.host()) < 1 + batch.n * 584 / 2000.0, "  raw rows: other bytes",
         differing(want_rows, batch.window_rows.host()));
  expect(differing(want_f, w.frontiers.host()) == 0, "  rings", differing(want_f, w.frontiers.host()));
  const double changed = differing(want_p, pages);
  const double other = differing(want_p, w.pages.host());
  expect(other <= changed / 300, "  compressed rows: other bytes", other);
  std::printf("         (written %.0f)\n", changed);
}

std::vector<Stretch> sequences(int n, int position) {
  std::vector<Stretch> s;
  for (int i = 0; i < n; ++i) s.push_back({i, position, 1});
  return s;
}

void time_decode(const World& w4, const World& w128, const Scratch& scratch) {
  for (const int context : {2048, 32768, 102400}) {
    for (const int n : {1, 16}) {
      const std::vector<Stretch> s = sequences(n, context - 1);
      Batch b4(w4, s, 1), b128(w128, s, 2);
      Selection selection(n);
      const Attend a4 = attend_of(b4, w4, true, bound_of(s, 4), scratch);
      const Attend a128 = attend_of(b128, w128, false, bound_of(s, 128), scratch);
      const IndexSelect i4 = select_of(b4, w4, bound_of(s, 4), selection);
      const double t4 = time_us([&](cudaStream_t q) { check(attend(a4, q), "attend"); });
      const double t128 = time_us([&](cudaStream_t q) { check(attend(a128, q), "attend"); });
      const double ti =
          time_us([&](cudaStream_t q) { check(index_select_rounded(i4, selection.prepared.data, q), "select"); });
      LatentData l4(n, w4);
      LatentData l128(n, w128);
      const Latents x4 = l4.args(b4, w4), x128 = l128.args(b128, w128);
      const double tl = time_us([&](cudaStream_t q) { check(latents(x4, q), "latents"); });
      const double tm = time_us([&](cudaStream_t q) { check(latents(x128, q), "latents"); });
      std::printf(
          "time  %6d tokens, %2d rows: attend %.2f us selected, %.2f us ratio 128; select %.2f us; latents %.2f us, "
          "closing 128 %.2f us\n",
          context, n, t4, t128, ti, tl, tm);
    }
  }
  for (const int n : {1, 16}) {
    const std::vector<Stretch> s = sequences(n, 2045);
    Batch b4(w4, s, 1), b128(w128, s, 1);
    LatentData l4(n, w4), l128(n, w128);
    const Latents x4 = l4.args(b4, w4), x128 = l128.args(b128, w128);
    std::printf("time  latents of %2d rows that close nothing: %.2f us ratio 4, %.2f us ratio 128\n", n,
                time_us([&](cudaStream_t q) { check(latents(x4, q), "latents"); }),
                time_us([&](cudaStream_t q) { check(latents(x128, q), "latents"); }));
    std::printf("time  rms_norm of %2d x 4096 %.2f us, copying rows %.2f us\n", n, time_us([&](cudaStream_t q) {
                  check(rms_norm({b4.query.data, nullptr, 1e-6f, b4.query.data, n, 4096}, q), "rms_norm");
                }),
                time_us([&](cudaStream_t q) {
                  check(window_append(b4.attention(w4, true).window, b4.places.data, n, w4.kv, q), "append");
                }));
  }
  for (const int64_t n : {1, 4, 16, 64}) {
    Mixer m(n);
    std::printf("time  sublayer_input of %2d rows %.2f us\n", static_cast<int>(n),
                time_us([&](cudaStream_t q) { check(sublayer_input(m.args(), q), "mixer"); }));
  }
}

void time_prompt(const World& w4, const World& w128, const Scratch& scratch) {
  for (const int context : {0, 32768, 98304}) {
    const std::vector<Stretch> s = {{3, context, 4096}};
    Batch batch(w4, s, 3);
    Selection selection(batch.n);
    const int first = context == 0 ? 127 : 0;
    double rows4 = 0, rows128 = 0, keys = 0;
    for (int r = first; r < 4096; ++r) {
      rows4 += 128 + std::min(512, (context + r + 1) / 4);
      rows128 += 128 + (context + r + 1) / 128;
      keys += (context + r + 1) / 4 > 512 ? (context + r + 1) / 4 : 0;
    }
    const double flop = 4.0 * kHeads * kRow;
    Attend a = attend_of(batch, w4, true, bound_of(s, 4), scratch);
    const AttendPrompt p4 = prompt_of(a, batch, first, scratch);
    const double t4 = time_us([&](cudaStream_t q) { check(attend_prompt(p4, q), "prompt"); }, 2);
    a = attend_of(batch, w128, false, bound_of(s, 128), scratch);
    const AttendPrompt p128 = prompt_of(a, batch, first, scratch);
    const double t128 = time_us([&](cudaStream_t q) { check(attend_prompt(p128, q), "prompt"); }, 2);
    const IndexSelect i4 = select_of(batch, w4, bound_of(s, 4), selection);
    const double ti =
        time_us([&](cudaStream_t q) { check(index_select_rounded(i4, selection.prepared.data, q), "select"); }, 2);
    std::printf(
        "time  4096 rows at %6d: attend %.0f us = %.0f TFLOP/s selected, %.0f us = %.0f ratio 128; select %.0f us = "
        "%.0f\n",
        context, t4, rows4 * flop / t4 * 1e-6, t128, rows128 * flop / t128 * 1e-6, ti,
        keys * 2 * kHeads * kIndexWidth / ti * 1e-6);
  }
}

void time_rows(const World& w4, const World& w128) {
  constexpr int64_t n = 4096;
  Array<uint4> big(size_t{2} << 26);
  Array<uint4> one(1);
  const double read =
      time_us([&](cudaStream_t q) { read_kernel<<<132 * 16, 256, 0, q>>>(big.data, big.n, one.data); }, 2);
  std::printf("time  reading %.0f GB/s\n", big.n * 16.0 / read * 1e-3);
  Mixer m(n);
  const auto report = [](const char* name, double bytes, double us) {
    std::printf("time  %-28s %8.1f us %8.0f GB/s\n", name, us, bytes / us * 1e-3);
  };
  report("sublayer_input, 4096 rows", n * 4.0 * (2 * 16384 + 4096),
         time_us([&](cudaStream_t q) { check(sublayer_input(m.args(), q), "mixer"); }, 4));
  report("hc_expand", n * 4.0 * (2 * 16384 + 4096),
         time_us(
             [&](cudaStream_t q) {
               check(hc_expand({m.streams.data, n, 4096, 4}, m.out.data, m.post.data, m.comb.data, q), "hc_expand");
             },
             4));
  Array<float> wide(n * 32768), other(n * 4096);
  report(
      "rms_norm per head", n * 8.0 * 32768,
      time_us(
          [&](cudaStream_t q) { check(rms_norm({wide.data, nullptr, 1e-6f, wide.data, n * 64, 512}, q), "rms_norm"); },
          4));
  report("add", n * 12.0 * 4096,
         time_us([&](cudaStream_t q) { check(add(m.out.data, other.data, other.data, n * 4096, q), "add"); }, 4));
  Batch batch(w4, {{1, 8192, 4096}}, 3);
  LatentData l(n, w4);
  const Latents args = l.args(batch, w4);
  report("latents, ratio 4", n * 4.0 * (2 * 1024 + 512 + 2048 + 512),
         time_us([&](cudaStream_t q) { check(latents(args, q), "latents"); }, 4));
  LatentData k(n, w128);
  const Latents args128 = k.args(batch, w128);
  report("latents, ratio 128", n * 4.0 * (2 * 1024 + 512 + 1024),
         time_us([&](cudaStream_t q) { check(latents(args128, q), "latents"); }, 4));
  report("rope of queries", n * 8.0 * 64 * 64,
         time_us(
             [&](cudaStream_t q) {
               check(rope({wide.data, batch.positions.data, batch.frequencies.data, n, 64, 512, 32, false}, q), "rope");
             },
             4));
}

void check_all(World& w4, World& w128, const Scratch& scratch) {
  for (const int position : {0, 1, 62, 63, 64, 126, 127, 128, 129, 255, 2043, 2047, 2051, 2052, 32767, 102399})
    check_attention(w4, {{2, position, 1}}, true, scratch);
  check_attention(w4, {{2, 2047, 1}, {0, 63, 1}, {5, 102399, 1}, {1, 0, 1}}, true, scratch);
  check_attention(w4, {{4, 120, 20}, {7, 2040, 44}}, true, scratch);
  check_attention(w4, {{4, 0, 300}}, true, scratch);
  check_attention(w4, {{4, 2000, 200}}, true, scratch);
  check_attention(w4, {{6, 510, 64}}, false, scratch);
  for (const int position : {126, 127, 128, 383, 8191, 102399})
    check_attention(w128, {{1, position, 2}}, false, scratch);
  check_attention(w128, {{1, 20000, 130}}, false, scratch);
  for (const int position : {2046, 2047, 2050, 2051, 2052, 2055, 32767, 33000, 102399})
    check_select(w4, {{3, position, 1}}, false);
  check_select(w4, {{3, 2040, 30}, {1, 9000, 3}, {0, 100, 2}}, false);
  check_select(w4, {{3, 2000, 200}, {1, 9000, 40}, {0, 100, 2}}, false);
  check_select(w4, {{3, 32000, 70}}, false);
  check_select(w4, {{3, 32000, 3}}, true);
  check_select(w4, {{3, 9000, 40}}, true);
  for (const int64_t n : {1, 3, 16, 64, 65, 100, 4096}) check_mixer(n);
  for (const Stretch s :
       {Stretch{1, 0, 1}, {1, 3, 1}, {1, 7, 1}, {1, 127, 1}, {2, 126, 9}, {2, 255, 2}, {2, 100, 200}, {2, 5, 64}}) {
    check_latents(w4, {s});
    check_latents(w128, {s});
  }
  check_latents(w4, {{0, 3, 1}, {1, 2047, 1}, {2, 130, 5}, {3, 127, 1}});
  check_latents(w128, {{0, 3, 1}, {1, 2047, 1}, {2, 130, 70}, {3, 127, 1}});
  for (const int n : {3, 16, 17, 64}) {
    check_alone(w4, true, n, scratch);
    check_alone(w128, false, n, scratch);
  }
}

}  // namespace
}  // namespace ds4::cuda

int main() {
  using namespace ds4::cuda;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device");
  std::printf("%s\n", properties.name);
  World w4(4), w128(128);
  Scratch scratch;
  check_all(w4, w128, scratch);
  time_decode(w4, w128, scratch);
  time_prompt(w4, w128, scratch);
  time_rows(w4, w128);
  std::printf("%d wrong\n", n_failed);
  return n_failed == 0 ? 0 : 1;
}
