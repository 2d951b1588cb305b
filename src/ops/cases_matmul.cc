// Op cases: matrix products, experts, router, swiglu.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/case_builder.h"
#include "ops/reference/dot.h"
#include "ops/reference/norm.h"

namespace ds4 {

namespace {

double magnitude(float value) { return std::fabs(static_cast<double>(value)); }

// Tolerance of matmul, matmul_grouped: the sum of |terms|, with activations as the profile quantises them, times the
// roundings that reach a term. Codes are functions of the input's bits, so no tie may break differently.
std::vector<double> matmul_bounds(const OpData& data, int64_t n_groups) {
  const OpArray& weight = data.array("weight");
  const int64_t n_out = weight.shape[0];
  const int64_t n_in = weight.shape[1];
  std::vector<double> bounds;
  for (int64_t r = 0; r < data.n_rows; ++r) {
    for (int64_t o = 0; o < n_out; ++o) {
      const int64_t group = o / (n_out / n_groups);
      bounds.push_back(dot_bound(weight, o, data.f32("x") + (r * n_groups + group) * n_in, data.profile));
    }
  }
  return bounds;
}

struct MatmulCase {
  std::string_view variant;
  DType type;
  int32_t n_rows;
  int64_t n_out;
  int64_t n_in;
  Fill fill = {};
};

void add_matmul_case(std::vector<OpCase>& cases, const MatmulCase& c) {
  const std::string variant = fmt::format("{}_{}_{}x{}", dtype_name(c.type), c.variant, c.n_out, c.n_in);
  add_case(cases, "matmul", variant, c.n_rows, [=](CaseBuilder& b) -> RunOp {
    b.weight("weight", WeightUse::kMatmul, c.type, {c.n_out, c.n_in});
    b.row_values("x", {c.n_in}, c.fill);
    b.output("out", {c.n_out}, within(matmul_bounds(b.data(), 1)));
    return [](Ops& ops, const OpViews& v) { ops.matmul(v["weight"], v["x"], v["out"]); };
  });
}

void add_grouped_case(std::vector<OpCase>& cases, DType type, int32_t n_rows, int32_t n_groups) {
  const std::string variant = fmt::format("{}_g{}", dtype_name(type), n_groups);
  add_case(cases, "matmul_grouped", variant, n_rows, [=](CaseBuilder& b) -> RunOp {
    const int64_t n_in = dtype_info(type).block_elements == 1 ? 33 : dtype_info(type).block_elements;
    b.weight("weight", WeightUse::kGroupedMatmul, type, {n_groups * 17, n_in});
    b.row_values("x", {n_groups * n_in});
    b.output("out", {n_groups * 17}, within(matmul_bounds(b.data(), n_groups)));
    return [=](Ops& ops, const OpViews& v) { ops.matmul_grouped(v["weight"], v["x"], n_groups, v["out"]); };
  });
}

// Sizes around the 16 partial sums and around vector widths, in blocks where the type has them.
std::vector<int64_t> input_widths(DType type) {
  const int64_t block = dtype_info(type).block_elements;
  if (block == 1) return {16, 1, 15, 17, 31, 33, 256, 257};
  return {block, block, 2 * block, 3 * block, block, 5 * block, 2 * block, 3 * block};
}

void add_matmul_type_cases(std::vector<OpCase>& cases, DType type) {
  constexpr int64_t kOutputs[] = {16, 1, 15, 33, 31, 17, 32, 9};
  const std::vector<int64_t> widths = input_widths(type);
  for (size_t i = 0; i < std::size(kRowCounts); ++i)
    add_matmul_case(cases, {"uniform", type, kRowCounts[i], kOutputs[i], widths[i]});
  const int64_t width = widths.back();
  add_matmul_case(cases, {"zero", type, 2, 5, width, {Fill::Kind::kZero}});
  add_matmul_case(cases, {"subnormal", type, 2, 5, width, {Fill::Kind::kSubnormal}});
  add_matmul_case(cases, {"ties", type, 2, 5, width, {Fill::Kind::kHalves}});
  add_matmul_case(cases, {"outlier", type, 2, 5, width, {Fill::Kind::kOutlier}});
  add_grouped_case(cases, type, 3, 2);
}

void add_swiglu_cases(std::vector<OpCase>& cases) {
  // Tolerance of swiglu: relative, one unit for each of exp (two on devices), sum, division and two products.
  const Comparison compare = within([](const OpData& data, int64_t i) {
    const float out = reference::swiglu<float>(data.f32("gate")[i], data.f32("up")[i], data.f32("clamp")[0]);
    return 8 * kUnit * magnitude(out) + kTiny;
  });
  for (const int32_t n_rows : kRowCounts) {
    const float clamp = n_rows % 2 == 0 ? 0.0f : 10.0f;
    const float scale = n_rows == 7 ? 120.0f : 15.0f;  // exp overflows F32 beyond 88
    add_case(cases, "swiglu", clamp == 0.0f ? "free" : "clamped", n_rows, [=](CaseBuilder& b) -> RunOp {
      b.row_values("gate", {33}, {.scale = scale});
      b.row_values("up", {33}, {.scale = scale});
      b.values("clamp", {1}, {Fill::Kind::kConstant, clamp});
      b.output("out", {33}, compare);
      return [=](Ops& ops, const OpViews& v) { ops.swiglu(v["gate"], v["up"], clamp, v["out"]); };
    });
  }
  add_case(cases, "swiglu", "onto_gate", 3, [=](CaseBuilder& b) -> RunOp {
    OpArray& gate = b.row_values("gate", {31}, {.scale = 15.0f});
    gate.use = ArrayUse::kInOut;
    gate.compare = compare;
    b.row_values("up", {31}, {.scale = 15.0f});
    b.values("clamp", {1}, {Fill::Kind::kConstant, 10.0f});
    return [](Ops& ops, const OpViews& v) { ops.swiglu(v["gate"], v["up"], 10.0f, v["gate"]); };
  });
}

struct RouterCase {
  std::string_view variant;
  int32_t n_rows;
  int32_t n_experts;
  int32_t n_used;
  Fill logits = {.scale = 6.0f};
  bool has_bias = true;
  bool has_table = false;
};

// Tolerance of router: ids bitwise, since the table's scores are either equal or far apart; weights sixteen units of
// the scale, for two roots, two logarithms of exponentials, the sum, the division and the product.
void add_router_case(std::vector<OpCase>& cases, const RouterCase& c) {
  const std::string variant = fmt::format("{}_e{}_k{}", c.variant, c.n_experts, c.n_used);
  add_case(cases, "router", variant, c.n_rows, [=](CaseBuilder& b) -> RunOp {
    constexpr float kScale = 1.5f;
    b.row_values("logits", {c.n_experts}, c.logits);
    if (c.has_bias) b.values("bias", {c.n_experts}, {.scale = c.logits.kind == Fill::Kind::kUniform ? 0.5f : 0.0f});
    if (c.has_table) {
      std::vector<int32_t> table;
      std::vector<int32_t> tokens;
      for (int32_t i = 0; i < 7 * c.n_used; ++i) table.push_back(pick(b.seed("table"), i, c.n_experts));
      for (int32_t r = 0; r < c.n_rows; ++r) tokens.push_back(6 - r % 7);
      b.add({.name = "table",
             .weight_use = WeightUse::kTokenTable,
             .type = DType::kI32,
             .shape = {7, c.n_used},
             .bytes = bytes_of(table)});
      b.row_ints("tokens", 0, tokens);
    }
    b.output("ids", {c.n_used}).type = DType::kI32;
    b.output("weights", {c.n_used}, within([](const OpData&, int64_t) { return 16 * kUnit * kScale; }));
    return [=](Ops& ops, const OpViews& v) {
      RouterArgs args{v["logits"], {}, {}, {}, kScale};
      if (c.has_bias) args.bias = v["bias"];
      if (c.has_table) args.token_table = v["table"];
      if (c.has_table) args.tokens = v["tokens"];
      ops.router(args, v["ids"], v["weights"]);
    };
  });
}

void add_router_cases(std::vector<OpCase>& cases) {
  constexpr int32_t kExperts[] = {8, 1, 31, 32, 33, 64, 255, 256};
  for (size_t i = 0; i < std::size(kRowCounts); ++i)
    add_router_case(cases, {"biased", kRowCounts[i], kExperts[i], std::min(kExperts[i], 6)});
  add_router_case(cases, {.variant = "without_bias", .n_rows = 3, .n_experts = 33, .n_used = 8, .has_bias = false});
  add_router_case(cases, {.variant = "every_expert", .n_rows = 3, .n_experts = 8, .n_used = 8});
  add_router_case(cases, {.variant = "wide", .n_rows = 9, .n_experts = 33, .n_used = 6, .logits = {.scale = 100.0f}});
  add_router_case(cases, {"equal", 3, 256, 6, {Fill::Kind::kConstant, 0.5f}});
  add_router_case(cases, {"many_ties", 9, 64, 6, {Fill::Kind::kIntegers, 2.0f}});
  add_router_case(cases, {"sum_below_floor", 2, 33, 6, {Fill::Kind::kConstant, -30.0f}});
  for (const int32_t n_rows : {0, 1, 9}) {
    add_router_case(cases, {.variant = "token_table",
                            .n_rows = n_rows,
                            .n_experts = 33,
                            .n_used = 6,
                            .has_bias = false,
                            .has_table = true});
  }
}

// One expert's hidden values for a row, with the error that each may have.
struct Hidden {
  std::vector<float> values;
  std::vector<double> errors;
};

Hidden hidden_values(const OpData& data, const float* x, int64_t expert, float weight, float clamp) {
  const OpArray& gate = data.array("gate");
  const OpArray& up = data.array("up");
  const int64_t n = gate.shape.back();
  const int64_t n_hidden = gate.shape[gate.shape.rank() - 2];
  Hidden hidden;
  for (int64_t f = expert * n_hidden; f < (expert + 1) * n_hidden; ++f) {
    const double a = reference::dot<double>(weight_row(gate, f).data(), x, n);
    const double b = reference::dot<double>(weight_row(up, f).data(), x, n);
    // silu's slope is at most 1.1.
    const double error =
        1.1 * dot_bound(gate, f, x, data.profile) * std::fabs(b) + std::fabs(a) * dot_bound(up, f, x, data.profile);
    const float value = reference::swiglu<float>(static_cast<float>(a), static_cast<float>(b), clamp) * weight;
    hidden.values.push_back(value);
    hidden.errors.push_back(error * magnitude(weight) + 8 * kUnit * magnitude(value));
  }
  return hidden;
}

// Tolerance of experts, shared_expert: the errors of the hidden values through |down|, the down product's own bound,
// and, where hidden values are quantised, two of them per product on the other side of a tie.
double experts_bound(const OpArray& down, int64_t row, const Hidden& hidden, NumericProfile profile) {
  const std::vector<float> w = weight_row(down, row);
  double bound = 2.0 * dot_bound(down, row, hidden.values.data(), profile);
  for (size_t f = 0; f < w.size(); ++f) bound += magnitude(w[f]) * hidden.errors[f];
  return bound + tie_bound(down, row, hidden.values.data(), profile);
}

struct ExpertsCase {
  std::string_view variant;
  std::array<DType, 3> types;  // gate, up, down
  int32_t n_rows;
  int64_t width;
  int64_t n_hidden;
  int32_t n_used = 3;
  float clamp = 3.0f;
  bool one_expert = false;  // every slot the same
  bool wants_mid = false;
};

constexpr int32_t kExpertCount = 5;

void add_experts_case(std::vector<OpCase>& cases, const ExpertsCase& c) {
  add_case(cases, "experts", fmt::format("{}_k{}", c.variant, c.n_used), c.n_rows, [=](CaseBuilder& b) -> RunOp {
    b.row_values("x", {c.width});
    b.weight("gate", WeightUse::kExperts, c.types[0], {kExpertCount, c.n_hidden, c.width});
    b.weight("up", WeightUse::kExperts, c.types[1], {kExpertCount, c.n_hidden, c.width});
    b.weight("down", WeightUse::kExperts, c.types[2], {kExpertCount, c.width, c.n_hidden});
    std::vector<int32_t> ids;
    for (int32_t r = 0; r < c.n_rows; ++r) {
      const int32_t first = pick(b.seed("ids"), r, kExpertCount);
      for (int32_t k = 0; k < c.n_used; ++k) ids.push_back(c.one_expert ? 2 : (first + 3 * k) % kExpertCount);
    }
    b.row_ints("ids", c.n_used, ids);
    b.row_values("weights", {c.n_used});
    const OpData& data = b.data();
    std::vector<double> bounds(static_cast<size_t>(c.n_rows * c.width), kTiny);
    std::vector<double> mid_bounds;
    for (int64_t slot = 0; slot < std::ssize(ids); ++slot) {
      const int64_t r = slot / c.n_used;
      const int64_t expert = ids[static_cast<size_t>(slot)];
      const Hidden hidden =
          hidden_values(data, data.f32("x") + r * c.width, expert, data.f32("weights")[slot], c.clamp);
      for (int64_t d = 0; d < c.width; ++d) {
        bounds[static_cast<size_t>(r * c.width + d)] +=
            experts_bound(data.array("down"), expert * c.width + d, hidden, data.profile);
      }
      for (const double error : hidden.errors) mid_bounds.push_back(2 * error + kTiny);
    }
    b.output("out", {c.width}, within(std::move(bounds)));
    if (c.wants_mid) b.output("mid", {c.n_used, c.n_hidden}, within(std::move(mid_bounds)));
    return [=](Ops& ops, const OpViews& v) {
      ops.experts({v["x"], v["gate"], v["up"], v["down"], v["ids"], v["weights"], c.clamp,
                   c.wants_mid ? v["mid"] : TensorView()},
                  v["out"]);
    };
  });
}

void add_shared_expert_case(std::vector<OpCase>& cases, const ExpertsCase& c) {
  add_case(cases, "shared_expert", c.variant, c.n_rows, [=](CaseBuilder& b) -> RunOp {
    b.row_values("x", {c.width});
    b.weight("gate", WeightUse::kMatmul, c.types[0], {c.n_hidden, c.width});
    b.weight("up", WeightUse::kMatmul, c.types[1], {c.n_hidden, c.width});
    b.weight("down", WeightUse::kMatmul, c.types[2], {c.width, c.n_hidden});
    b.scratch("gate_scratch", {c.n_hidden});
    b.scratch("up_scratch", {c.n_hidden});
    const OpData& data = b.data();
    std::vector<double> bounds;
    for (int64_t r = 0; r < c.n_rows; ++r) {
      const Hidden hidden = hidden_values(data, data.f32("x") + r * c.width, 0, 1.0f, c.clamp);
      for (int64_t d = 0; d < c.width; ++d)
        bounds.push_back(experts_bound(data.array("down"), d, hidden, data.profile));
    }
    b.output("out", {c.width}, within(std::move(bounds)));
    const auto args = [clamp = c.clamp](const OpViews& v) {
      return SharedExpertArgs{v["x"], v["gate"], v["up"], v["down"], clamp, v["gate_scratch"], v["up_scratch"]};
    };
    b.data().run_composed = [=](Ops& ops, const OpViews& v) { ops.Ops::shared_expert(args(v), v["out"]); };
    return [=](Ops& ops, const OpViews& v) { ops.shared_expert(args(v), v["out"]); };
  });
}

}  // namespace

void add_matmul_cases(std::vector<OpCase>& cases) {
  for (const DType type : kWeightTypes) add_matmul_type_cases(cases, type);
  for (const int32_t n_rows : kRowCounts) add_grouped_case(cases, DType::kQ8_0, n_rows, 4);
  add_grouped_case(cases, DType::kF16, 3, 1);
}

void add_expert_cases(std::vector<OpCase>& cases) {
  add_swiglu_cases(cases);
  add_router_cases(cases);
  using enum DType;
  for (const int32_t n_rows : kRowCounts) add_experts_case(cases, {"MXFP4", {kMXFP4, kMXFP4, kMXFP4}, n_rows, 96, 64});
  const ExpertsCase mixed[] = {
      {"IQ2_XXS_Q2_K", {kIQ2_XXS, kIQ2_XXS, kQ2_K}, 1, 256, 256},
      {"IQ2_XXS_Q2_K", {kIQ2_XXS, kIQ2_XXS, kQ2_K}, 3, 512, 256},
      {"Q4_K", {kQ4_K, kQ4_K, kQ4_K}, 2, 256, 512},
      {"Q8_0", {kQ8_0, kQ8_0, kQ8_0}, 9, 32, 96},
      {"F16_BF16_F32", {kF16, kBF16, kF32}, 3, 31, 33},
      {"Q2_K_Q4_K_Q8_0", {kQ2_K, kQ4_K, kQ8_0}, 2, 256, 32},
      {"without_clamp", {kQ8_0, kQ8_0, kF32}, 3, 64, 33, 5, 0.0f},
      {"one_slot", {kF32, kF32, kF32}, 3, 16, 17, 1},
      {"same_expert", {kMXFP4, kMXFP4, kMXFP4}, 33, 32, 32, 2, 3.0f, true},
      {"mid_F32", {kF32, kF32, kF32}, 9, 31, 33, 3, 3.0f, false, true},
      {"mid_Q4_K_Q8_0", {kQ4_K, kQ4_K, kQ8_0}, 3, 256, 64, 3, 3.0f, false, true},
      {"mid_MXFP4", {kMXFP4, kMXFP4, kMXFP4}, 1, 32, 96, 2, 0.0f, false, true},
      {"mid_without_rows", {kF32, kF32, kF32}, 0, 31, 33, 3, 3.0f, false, true},
  };
  for (const ExpertsCase& c : mixed) add_experts_case(cases, c);
  for (const int32_t n_rows : kRowCounts)
    add_shared_expert_case(cases, {"Q8_0", {kQ8_0, kQ8_0, kQ8_0}, n_rows, 64, 96});
  add_shared_expert_case(cases, {"F16_BF16_F32", {kF16, kBF16, kF32}, 3, 31, 33});
  add_shared_expert_case(cases, {"Q4_K_Q2_K_IQ2_XXS", {kQ4_K, kQ2_K, kIQ2_XXS}, 3, 256, 256});
}

}  // namespace ds4
