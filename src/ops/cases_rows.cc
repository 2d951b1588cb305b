// Op cases: rotation, and the rounding of rows.

#include <cmath>

#include "ops/case_builder.h"

namespace ds4 {

namespace {

// Angle frequencies of a plain table; any would do.
std::vector<float> frequencies(int64_t n_rot) {
  std::vector<float> values;
  for (int64_t i = 0; i < n_rot; i += 2)
    values.push_back(1.0f / std::pow(10000.0f, static_cast<float>(i) / static_cast<float>(n_rot)));
  return values;
}

// Tolerance of rope: sine and cosine within two units, two products and a sum, on |a| + |b| of the pair. The angle is
// an F32 product on every backend and adds nothing.
double rope_bound(const OpData& data, int64_t i, int64_t width, int64_t n_rot) {
  const int64_t tail = i % width - (width - n_rot);
  if (tail < 0) return 0.0;
  const int64_t partner = tail % 2 == 0 ? i + 1 : i - 1;
  const double a = std::fabs(static_cast<double>(data.f32("x")[i]));
  return 6 * kUnit * (a + std::fabs(static_cast<double>(data.f32("x")[partner]))) + kTiny;
}

void add_rope_case(std::vector<OpCase>& cases, int32_t n_rows, std::array<int64_t, 3> shape, bool inverse) {
  const auto [n_heads, width, n_rot] = shape;
  const std::string variant = fmt::format("h{}_d{}_rot{}{}", n_heads, width, n_rot, inverse ? "_inverse" : "");
  add_case(cases, "rope", variant, n_rows, [=](CaseBuilder& b) -> RunOp {
    constexpr int32_t kPositions[] = {0, 1, 127, 128, 65535, 1000000, 1048575};
    std::vector<int32_t> positions;
    for (int32_t r = 0; r < n_rows; ++r) positions.push_back(kPositions[(r + 2) % 7]);
    b.row_ints("positions", 0, positions);
    b.add({.name = "table", .shape = {n_rot / 2}, .bytes = bytes_of(frequencies(n_rot))});
    OpArray& x = b.row_values("x", {n_heads, width});
    x.use = ArrayUse::kInOut;
    x.compare = within([=](const OpData& data, int64_t i) { return rope_bound(data, i, width, n_rot); });
    return [=](Ops& ops, const OpViews& v) { ops.rope(v["x"], v["positions"], {v["table"]}, inverse); };
  });
}

struct PackCase {
  std::string_view variant;
  KvEncoding encoding;
  int32_t n_rows;
  int32_t width;
  int32_t n_rot;
  Fill fill = {};
};

// Tolerance of kv_pack: none. Stored bytes are part of the format.
void add_pack_case(std::vector<OpCase>& cases, const PackCase& c) {
  const KvRowFormat format = case_row_format(c.encoding, c.width, c.n_rot);
  add_case(cases, "kv_pack", fmt::format("{}_d{}_rot{}", c.variant, c.width, c.n_rot), c.n_rows,
           [=](CaseBuilder& b) -> RunOp {
             b.row_values("x", {c.width}, c.fill);
             OpArray& rows = b.bytes("rows", ArrayUse::kOutput, {c.n_rows, format.row_bytes});
             rows.per_row = true;
             return [=](Ops& ops, const OpViews& v) { ops.kv_pack(v["x"], format, v["rows"]); };
           });
}

void add_pack_cases(std::vector<OpCase>& cases) {
  using enum KvEncoding;
  for (const int32_t n_rows : kRowCounts) {
    add_pack_case(cases, {"fp8", kFp8, n_rows, 96, 16, {.scale = 4.0f}});  // a whole group and a short one
    add_pack_case(cases, {"fp4", kFp4, n_rows, 64, 8, {.scale = 4.0f}});
    add_pack_case(cases, {"f32", kF32, n_rows, 33, 2});
  }
  constexpr std::array<int32_t, 2> kFp8Shapes[] = {{65, 0}, {130, 2}, {72, 8}, {36, 4}, {512, 64}};
  for (const auto& [width, n_rot] : kFp8Shapes) add_pack_case(cases, {"fp8", kFp8, 3, width, n_rot});
  constexpr std::pair<std::string_view, Fill> kHard[] = {
      {"zero", {Fill::Kind::kZero}},
      {"subnormal", {Fill::Kind::kSubnormal}},
      {"fp8_ties", {Fill::Kind::kFp8Ties}},
      {"fp4_ties", {Fill::Kind::kFp4Ties}},
      {"outlier", {Fill::Kind::kOutlier}},
      {"at_448", {Fill::Kind::kConstant, 448.0f}},        // the scale is exactly one
      {"above_448", {Fill::Kind::kConstant, 448.0002f}},  // and exactly two
      {"below_floor", {Fill::Kind::kConstant, 9e-5f}},
      {"large", {.scale = 6e4f}},  // up to the end of F16, which holds the tail
  };
  for (const auto& [name, fill] : kHard) {
    add_pack_case(cases, {fmt::format("fp8_{}", name), kFp8, 2, 80, 16, fill});
    add_pack_case(cases, {fmt::format("fp4_{}", name), kFp4, 2, 96, 16, fill});
  }
}

// Tolerance of index_round: none. The butterfly has one order, and codes are functions of its bits.
void add_index_round_case(std::vector<OpCase>& cases, int32_t n_rows, int64_t width, std::string_view variant,
                          Fill fill) {
  add_case(cases, "index_round", fmt::format("{}_d{}", variant, width), n_rows, [=](CaseBuilder& b) -> RunOp {
    b.row_values("x", {3, width}, fill).use = ArrayUse::kInOut;
    return [](Ops& ops, const OpViews& v) { ops.index_round(v["x"]); };
  });
}

// Tolerance of steer: the dot product's, |terms| summed times the roundings that reach one, comes into the element with
// |scale * direction|; three roundings of the subtracted part, one of the difference. Without a scale none.
std::vector<double> steer_bounds(const OpData& data, int64_t n) {
  const auto magnitude = [](float value) { return std::fabs(static_cast<double>(value)); };
  const float* direction = data.f32("direction");
  const int64_t n_roundings = n / 8 + 12;
  std::vector<double> bounds;
  for (int64_t r = 0; r < data.n_rows; ++r) {
    const float* x = data.f32("x") + r * n;
    const double scale = magnitude(data.f32("scales")[r]);
    double terms = 0.0;
    for (int64_t i = 0; i < n; ++i) terms += magnitude(direction[i]) * magnitude(x[i]);
    for (int64_t i = 0; i < n; ++i) {
      const double part = scale * magnitude(direction[i]) * terms;
      const double bound = (static_cast<double>(n_roundings) * part + magnitude(x[i])) * kUnit + kTiny;
      bounds.push_back(scale == 0.0 ? 0.0 : bound);
    }
  }
  return bounds;
}

void add_steer_case(std::vector<OpCase>& cases, std::string_view variant, int32_t n_rows, int64_t n, Fill fill) {
  add_case(cases, "steer", fmt::format("{}_d{}", variant, n), n_rows, [=](CaseBuilder& b) -> RunOp {
    b.values("direction", {n});
    // Rows that are steered stand between rows that are not.
    constexpr float kScales[] = {1.0f, 0.0f, -1.0f, 100.0f, -0.0f, -0.75f, -100.0f};
    std::vector<float> scales;
    for (size_t r = 0; r < static_cast<size_t>(n_rows); ++r) scales.push_back(kScales[r % std::size(kScales)]);
    b.row_values("scales", {}).bytes = bytes_of(scales);
    b.row_values("x", {n}, fill).use = ArrayUse::kInOut;
    b.data().arrays.back().compare = within(steer_bounds(b.data(), n));
    return [](Ops& ops, const OpViews& v) { ops.steer(v["x"], v["direction"], v["scales"]); };
  });
}

}  // namespace

KvRowFormat case_row_format(KvEncoding encoding, int32_t width, int32_t n_rot) {
  int32_t bytes = 4 * width;
  if (encoding == KvEncoding::kFp8) {
    const int32_t n_codes = width - n_rot;
    bytes = n_codes + (n_codes + kFp8Group - 1) / kFp8Group + 2 * n_rot;
  }
  if (encoding == KvEncoding::kFp4) bytes = width / 2 + width / kFp4Group;
  return {encoding, width, n_rot, (bytes + 8) / 8 * 8};  // at least one byte of padding
}

void add_row_cases(std::vector<OpCase>& cases) {
  constexpr std::array<int64_t, 3> kRopeShapes[] = {{2, 32, 8}, {1, 2, 2},    {3, 64, 64},  {1, 33, 30},
                                                    {2, 31, 2}, {4, 128, 64}, {1, 512, 64}, {3, 16, 4}};
  for (size_t i = 0; i < std::size(kRowCounts); ++i) {
    add_rope_case(cases, kRowCounts[i], kRopeShapes[i], false);
    add_rope_case(cases, kRowCounts[i], kRopeShapes[i], true);
  }
  add_pack_cases(cases);
  constexpr int64_t kSteerWidths[] = {64, 1, 15, 16, 17, 31, 257, 33};
  for (size_t i = 0; i < std::size(kRowCounts); ++i)
    add_steer_case(cases, "uniform", kRowCounts[i], kSteerWidths[i], {});
  add_steer_case(cases, "uniform", 3, 4096, {});
  add_steer_case(cases, "outlier", 8, 255, {Fill::Kind::kOutlier});
  add_steer_case(cases, "large", 4, 48, {.scale = 1e18f});
  for (const int32_t n_rows : kRowCounts) add_index_round_case(cases, n_rows, 64, "uniform", {.scale = 3.0f});
  for (const int64_t width : {32, 128, 256}) add_index_round_case(cases, 2, width, "uniform", {.scale = 3.0f});
  add_index_round_case(cases, 2, 128, "zero", {Fill::Kind::kZero});
  add_index_round_case(cases, 2, 128, "subnormal", {Fill::Kind::kSubnormal});
  add_index_round_case(cases, 2, 64, "integers", {Fill::Kind::kIntegers, 3.0f});  // sums of eighths: many ties
  add_index_round_case(cases, 2, 64, "constant", {Fill::Kind::kConstant, 1.0f});
}

}  // namespace ds4
