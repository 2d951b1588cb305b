#pragma once

// What the files of the op table (cases_*.cc) share: values from a seed, blocks of every weight type, and the arrays of
// one case. Not for use outside the table.

#include <string>
#include <utility>
#include <vector>

#include "ops/cases.h"

namespace ds4 {

// Numbers of rows that meet the edges of usual tiles.
inline constexpr int32_t kRowCounts[] = {0, 1, 2, 3, 7, 8, 9, 33};
inline constexpr DType kWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,    DType::kQ8_0,
                                         DType::kQ2_K, DType::kQ4_K, DType::kIQ2_XXS, DType::kMXFP4};

struct Fill {
  enum class Kind : uint8_t {
    kUniform,    // in [-scale, scale)
    kZero,       //
    kConstant,   // scale
    kSubnormal,  // below 2^-126, of both signs
    kIntegers,   // whole numbers in [-scale, scale]
    kHalves,     // k + 1/2 within [-126.5, 126.5] after one 127 per 32: ties of 8-bit quantisation
    kFp8Ties,    // middles between E4M3 codes after one 448 per 64
    kFp4Ties,    // middles between E2M1 codes after one 6 per 32
    kOutlier,    // uniform, but one value per 32 a thousand times larger
  };
  Kind kind = Kind::kUniform;
  float scale = 1.0f;
};

std::vector<float> make_values(Fill fill, int64_t n, uint64_t seed);
std::vector<std::byte> bytes_of(const std::vector<float>& values);
std::vector<std::byte> bytes_of(const std::vector<int32_t>& values);
// Valid rows with every code possible: random codes under random factors, elements of order one.
std::vector<std::byte> make_weight(DType type, int64_t n_elements, uint64_t seed);

// A row format with at least one byte of padding.
KvRowFormat case_row_format(KvEncoding encoding, int32_t width, int32_t n_rot);

// A uniform integer in [0, n) that depends on all arguments.
int32_t pick(uint64_t seed, int64_t index, int32_t n);

// The arrays of one case; a seed per array comes from the case's name and the array's.
class CaseBuilder {
 public:
  CaseBuilder(std::string_view case_name, NumericProfile profile, int32_t n_rows);

  NumericProfile profile() const { return data_.profile; }
  uint64_t seed(std::string_view name) const;

  OpArray& values(std::string_view name, Shape shape, Fill fill = {});
  OpArray& row_values(std::string_view name, std::initializer_list<int64_t> row_shape, Fill fill = {});
  // [R, width], or [R] when width is 0.
  OpArray& row_ints(std::string_view name, int64_t width, const std::vector<int32_t>& ints);
  OpArray& weight(std::string_view name, WeightUse use, DType type, Shape shape);
  // Outputs and scratch: 0xFF before the op.
  OpArray& output(std::string_view name, std::initializer_list<int64_t> row_shape, Comparison compare = {});
  OpArray& scratch(std::string_view name, std::initializer_list<int64_t> row_shape);
  OpArray& bytes(std::string_view name, ArrayUse use, Shape shape);
  OpArray& add(OpArray array);

  OpData& data() { return data_; }

 private:
  Shape with_rows(std::initializer_list<int64_t> row_shape) const;

  OpData data_;
  uint64_t seed_;
};

using RunOp = std::function<void(Ops&, const OpViews&)>;

// A case named OP_VARIANT_rROWS; `build` adds its arrays and returns how the op is called.
void add_case(std::vector<OpCase>& cases, std::string_view op, std::string_view variant, int32_t n_rows,
              std::function<RunOp(CaseBuilder&)> build);

// A dot product of n_in terms may be off by this, for any reasonable order of the sum: |terms| summed, times the
// roundings that a term takes part in, of which long float sums run in at least eight partial ones.
double dot_bound(const OpArray& weight, int64_t row, const float* x, NumericProfile profile);
// What changes when two activations that lie within rounding of a tie take the neighbouring code.
double tie_bound(const OpArray& weight, int64_t row, const float* x, NumericProfile profile);
// Row `row` of all the weight's rows, dequantised.
std::vector<float> weight_row(const OpArray& weight, int64_t row);

void add_stream_cases(std::vector<OpCase>& cases);
void add_matmul_cases(std::vector<OpCase>& cases);
void add_expert_cases(std::vector<OpCase>& cases);
void add_row_cases(std::vector<OpCase>& cases);
void add_kv_cases(std::vector<OpCase>& cases);

}  // namespace ds4
