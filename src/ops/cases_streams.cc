// Op cases: embedding, norm, hyper-connections, and the ops that only move or add.

#include <cmath>

#include "ops/case_builder.h"
#include "ops/reference/norm.h"

namespace ds4 {

namespace {

double magnitude(float value) { return std::fabs(static_cast<double>(value)); }

std::vector<int32_t> picks(const CaseBuilder& b, std::string_view name, int64_t n, int32_t limit) {
  std::vector<int32_t> ints;
  for (int64_t i = 0; i < n; ++i) ints.push_back(i == 0 ? limit - 1 : i == 1 ? 0 : pick(b.seed(name), i, limit));
  return ints;
}

void add_embed_cases(std::vector<OpCase>& cases) {
  for (const DType type : kWeightTypes) {
    for (const int32_t n_rows : {0, 1, 9}) {
      add_case(cases, "embed", dtype_name(type), n_rows, [=](CaseBuilder& b) -> RunOp {
        const int64_t width = dtype_info(type).block_elements == 1 ? 33 : 2 * dtype_info(type).block_elements;
        b.weight("table", WeightUse::kEmbedding, type, {17, width});
        b.row_ints("tokens", 0, picks(b, "tokens", n_rows, 17));
        b.output("out", {width});
        return [](Ops& ops, const OpViews& v) { ops.embed(v["table"], v["tokens"], v["out"]); };
      });
    }
  }
}

void add_copy_cases(std::vector<OpCase>& cases) {
  for (const int32_t n_rows : kRowCounts) {
    for (const int64_t n_streams : {1, 4}) {
      add_case(cases, "hc_init", fmt::format("s{}", n_streams), n_rows, [=](CaseBuilder& b) -> RunOp {
        b.row_values("x", {31});
        b.output("streams", {n_streams, 31});
        return [](Ops& ops, const OpViews& v) { ops.hc_init(v["x"], v["streams"]); };
      });
    }
    add_case(cases, "gather_rows", "of_5", n_rows, [=](CaseBuilder& b) -> RunOp {
      b.values("x", {5, 33});
      b.row_ints("row_ids", 0, picks(b, "row_ids", n_rows, 5));
      b.output("out", {33});
      return [](Ops& ops, const OpViews& v) { ops.gather_rows(v["x"], v["row_ids"], v["out"]); };
    });
    add_case(cases, "add", "", n_rows, [=](CaseBuilder& b) -> RunOp {
      b.row_values("a", {257}, {Fill::Kind::kOutlier});
      b.row_values("b", {257});
      b.output("out", {257});
      return [](Ops& ops, const OpViews& v) { ops.add(v["a"], v["b"], v["out"]); };
    });
  }
  add_case(cases, "add", "onto_a", 3, [](CaseBuilder& b) -> RunOp {
    b.row_values("a", {33}).use = ArrayUse::kInOut;
    b.row_values("b", {33});
    return [](Ops& ops, const OpViews& v) { ops.add(v["a"], v["b"], v["a"]); };
  });
}

// Tolerance of rms_norm: relative, one unit for each rounding of mean, sum, root, reciprocal and two products, and
// two for the root's and the division's own errors on devices. Sums do not count: they are in double.
double rms_norm_bound(float out) { return 8 * kUnit * magnitude(out) + kTiny; }

std::vector<float> normed_row(const OpData& data, std::string_view name, const float* weight, int64_t row, int64_t n) {
  std::vector<float> out(static_cast<size_t>(n));
  reference::rms_norm_row<double>(data.f32(name) + row * n, weight, 1e-6f, n, out.data());
  return out;
}

void add_norm_case(std::vector<OpCase>& cases, std::string_view variant, int32_t n_rows, int64_t n, Fill fill) {
  add_case(cases, "rms_norm", fmt::format("{}_n{}", variant, n), n_rows, [=](CaseBuilder& b) -> RunOp {
    b.row_values("x", {n}, fill);
    b.values("weight", {n}, {.scale = 2.0f});
    std::vector<double> bounds;
    for (int64_t row = 0; row < n_rows; ++row) {
      for (const float out : normed_row(b.data(), "x", b.data().f32("weight"), row, n))
        bounds.push_back(rms_norm_bound(out));
    }
    b.output("out", {n}, within(std::move(bounds)));
    return [](Ops& ops, const OpViews& v) { ops.rms_norm(v["x"], v["weight"], 1e-6f, v["out"]); };
  });
}

void add_norm_cases(std::vector<OpCase>& cases) {
  constexpr int64_t kWidths[] = {1, 31, 33, 255, 256, 257, 1024, 16};
  for (size_t i = 0; i < std::size(kRowCounts); ++i) add_norm_case(cases, "uniform", kRowCounts[i], kWidths[i], {});
  add_norm_case(cases, "zero", 2, 33, {Fill::Kind::kZero});
  add_norm_case(cases, "subnormal", 2, 33, {Fill::Kind::kSubnormal});
  add_norm_case(cases, "square_overflows", 2, 33, {.scale = 1e18f});
  add_norm_case(cases, "outlier", 2, 257, {Fill::Kind::kOutlier});
  add_case(cases, "rms_norm", "in_place_without_gain", 7, [](CaseBuilder& b) -> RunOp {
    OpArray& x = b.row_values("x", {64}, {.scale = 3.0f});
    x.use = ArrayUse::kInOut;
    x.compare = within([](const OpData&, int64_t) { return rms_norm_bound(2.0f); });
    return [](Ops& ops, const OpViews& v) { ops.rms_norm(v["x"], {}, 1e-6f, v["x"]); };
  });
}

constexpr int64_t mix_width(int64_t n_streams) { return 2 * n_streams + n_streams * n_streams; }

// Tolerance of hc_mix: absolute. Sigmoids and softmax move by at most the error of their argument, two roundings of
// |mix * scale| + |base|; the passes of the normalisation contract, so 32 units cover them all.
double hc_mix_bound(const OpData& data, int64_t n_streams, int64_t row, double mix_error) {
  const int64_t width = mix_width(n_streams);
  double largest = 0.0;
  for (int64_t i = 0; i < width; ++i) {
    const int part = i < n_streams ? 0 : i < 2 * n_streams ? 1 : 2;
    const double scale = magnitude(data.f32("scale")[part]);
    const double mix = mix_error > 0.0 ? 0.0 : magnitude(data.f32("mix")[row * width + i]) * scale;
    largest = std::max(largest, mix + magnitude(data.f32("base")[i]) + 4.0 * mix_error * scale / kUnit);
  }
  return (32.0 + 4.0 * largest) * kUnit;
}

void add_split(CaseBuilder& b, int64_t n_streams, const std::function<double(const OpData&, int64_t row)>& bound) {
  const auto per_row = [&](int64_t width) {
    return within([=](const OpData& data, int64_t i) { return bound(data, i / width); });
  };
  b.output("pre", {n_streams}, per_row(n_streams));
  b.output("post", {n_streams}, per_row(n_streams));
  b.output("comb", {n_streams, n_streams}, per_row(n_streams * n_streams));
}

HcSplit split_of(const OpViews& v) { return {v["pre"], v["post"], v["comb"]}; }

void add_hc_mix_case(std::vector<OpCase>& cases, std::string_view variant, int32_t n_rows, HcParams params, Fill fill) {
  add_case(cases, "hc_mix", fmt::format("{}_s{}", variant, params.n_streams), n_rows, [=](CaseBuilder& b) -> RunOp {
    const int64_t n = params.n_streams;
    b.row_values("mix", {mix_width(n)}, fill);
    b.values("scale", {3}, {.scale = 1.5f});
    b.values("base", {mix_width(n)});
    add_split(b, n, [=](const OpData& data, int64_t row) { return hc_mix_bound(data, n, row, 0.0); });
    return [=](Ops& ops, const OpViews& v) { ops.hc_mix(v["mix"], v["scale"], v["base"], params, split_of(v)); };
  });
}

void add_hc_mix_cases(std::vector<OpCase>& cases) {
  for (const int32_t n_rows : kRowCounts) add_hc_mix_case(cases, "uniform", n_rows, {}, {.scale = 2.0f});
  add_hc_mix_case(cases, "saturated", 3, {}, {.scale = 60.0f});
  add_hc_mix_case(cases, "zero", 2, {}, {Fill::Kind::kZero});
  add_hc_mix_case(cases, "one_pass", 2, {.sinkhorn_iterations = 1}, {});
  add_hc_mix_case(cases, "uniform", 2, {.n_streams = 2}, {});
  for (const int32_t n_rows : {0, 1, 9}) {
    add_case(cases, "hc_head_mix", "", n_rows, [=](CaseBuilder& b) -> RunOp {
      b.row_values("mix", {4}, {.scale = 12.0f});
      b.values("scale", {1});
      b.values("base", {4});
      // Tolerance of hc_head_mix: a sigmoid's slope is at most 1/4, its argument has two roundings, it has four.
      b.output("weights", {4}, within([](const OpData& data, int64_t i) {
                 return (4 + magnitude(data.f32("mix")[i]) + magnitude(data.f32("base")[i % 4])) * kUnit;
               }));
      return [](Ops& ops, const OpViews& v) { ops.hc_head_mix(v["mix"], v["scale"], v["base"], 1e-6f, v["weights"]); };
    });
  }
}

// Tolerance of hc_reduce: the sum of |terms| times one unit per product and addition.
double hc_reduce_bound(const OpData& data, const float* weights, int64_t n, int64_t width, int64_t i) {
  const float* streams = data.f32("streams") + i / width * n * width + i % width;
  double sum = 0.0;
  for (int64_t s = 0; s < n; ++s) sum += magnitude(weights[i / width * n + s]) * magnitude(streams[s * width]);
  return static_cast<double>(n + 1) * kUnit * sum + kTiny;
}

// Tolerance of hc_expand: as hc_reduce, with the sub-layer's output as one more term.
double hc_expand_bound(const OpData& data, int64_t n, int64_t width, int64_t i) {
  const int64_t row = i / (n * width);
  const int64_t to = i / width % n;
  double sum = magnitude(data.f32("y")[row * width + i % width]) * magnitude(data.f32("post")[row * n + to]);
  for (int64_t from = 0; from < n; ++from) {
    sum += magnitude(data.f32("comb")[(row * n + from) * n + to]) *
           magnitude(data.f32("streams")[(row * n + from) * width + i % width]);
  }
  return static_cast<double>(n + 2) * kUnit * sum + kTiny;
}

void add_hc_stream_cases(std::vector<OpCase>& cases) {
  constexpr int64_t kWidths[] = {32, 1, 31, 33, 255, 256, 257, 64};
  for (size_t k = 0; k < std::size(kRowCounts); ++k) {
    const int64_t width = kWidths[k];
    const int64_t n = k == 3 ? 2 : 4;
    add_case(cases, "hc_reduce", fmt::format("s{}_d{}", n, width), kRowCounts[k], [=](CaseBuilder& b) -> RunOp {
      b.row_values("streams", {n, width}, {.scale = 5.0f});
      b.row_values("weights", {n});
      b.output("out", {width}, within([=](const OpData& data, int64_t i) {
                 return hc_reduce_bound(data, data.f32("weights"), n, width, i);
               }));
      return [](Ops& ops, const OpViews& v) { ops.hc_reduce(v["streams"], v["weights"], v["out"]); };
    });
    add_case(cases, "hc_expand", fmt::format("s{}_d{}", n, width), kRowCounts[k], [=](CaseBuilder& b) -> RunOp {
      b.row_values("y", {width}, {.scale = 5.0f});
      b.row_values("post", {n}, {.scale = 2.0f});
      b.row_values("comb", {n, n});
      OpArray& streams = b.row_values("streams", {n, width}, {.scale = 5.0f});
      streams.use = ArrayUse::kInOut;
      streams.compare = within([=](const OpData& data, int64_t i) { return hc_expand_bound(data, n, width, i); });
      return [](Ops& ops, const OpViews& v) { ops.hc_expand(v["y"], {{}, v["post"], v["comb"]}, v["streams"]); };
    });
  }
}

// Tolerance of hc_pre: the matmul's on values that carry the norm's error, through the slopes of hc_mix (at most one
// per unit of its argument), then hc_reduce with weights off by that much.
double hc_pre_mix_error(const OpData& data, int64_t row) {
  const OpArray& fn = data.array("fn");
  const int64_t n = fn.shape[1];
  const std::vector<float> normed = normed_row(data, "streams", nullptr, row, n);
  double largest = 0.0;
  for (int64_t o = 0; o < fn.shape[0]; ++o) {
    const double ties = tie_bound(fn, o, normed.data(), data.profile);
    largest = std::max(largest, 2.0 * dot_bound(fn, o, normed.data(), data.profile) + ties);
  }
  return largest;
}

void add_hc_pre_case(std::vector<OpCase>& cases, DType type, int32_t n_rows, int64_t width) {
  add_case(cases, "hc_pre", fmt::format("{}_d{}", dtype_name(type), width), n_rows, [=](CaseBuilder& b) -> RunOp {
    b.row_values("streams", {4, width}, {.scale = 5.0f});
    b.weight("fn", WeightUse::kMatmul, type, {mix_width(4), 4 * width});
    b.values("scale", {3}, {.scale = 0.2f});
    b.values("base", {mix_width(4)});
    b.scratch("normed", {4 * width});
    b.scratch("mix", {mix_width(4)});
    std::vector<double> split_bounds;
    for (int64_t row = 0; row < n_rows; ++row)
      split_bounds.push_back(hc_mix_bound(b.data(), 4, row, hc_pre_mix_error(b.data(), row)));
    const auto split_bound = [=](int64_t row) { return split_bounds[static_cast<size_t>(row)]; };
    add_split(b, 4, [=](const OpData&, int64_t row) { return split_bound(row); });
    b.output("out", {width}, within([=](const OpData& data, int64_t i) {
               const std::vector<float> ones(static_cast<size_t>(4 * n_rows), 1.0f);  // pre is at most one
               return (split_bound(i / width) / kUnit + 1) * hc_reduce_bound(data, ones.data(), 4, width, i);
             }));
    const auto args = [](const OpViews& v) {
      return HcPreArgs{v["streams"], v["fn"], v["scale"], v["base"], {}, 1e-6f, v["normed"], v["mix"]};
    };
    b.data().run_composed = [=](Ops& ops, const OpViews& v) { ops.Ops::hc_pre(args(v), split_of(v), v["out"]); };
    return [=](Ops& ops, const OpViews& v) { ops.hc_pre(args(v), split_of(v), v["out"]); };
  });
}

}  // namespace

void add_stream_cases(std::vector<OpCase>& cases) {
  add_embed_cases(cases);
  add_copy_cases(cases);
  add_norm_cases(cases);
  add_hc_mix_cases(cases);
  add_hc_stream_cases(cases);
  for (const int32_t n_rows : kRowCounts) add_hc_pre_case(cases, DType::kF16, n_rows, 33);
  add_hc_pre_case(cases, DType::kF32, 3, 256);
  add_hc_pre_case(cases, DType::kBF16, 3, 31);
  add_hc_pre_case(cases, DType::kQ8_0, 3, 32);
}

}  // namespace ds4
