#pragma once

// The table of op cases: inputs of every op at sizes and values where implementations go wrong, and how far a result
// may lie from the oracle's (ReferenceOps<double>, fed the same bytes). The tests run the table on every backend.
//
// A case makes its arrays as host bytes. Whoever runs it places them on a backend and calls `run` with views under the
// same names. Memory that an op must not read holds NaN patterns (bytes 0xFF), and so do outputs before the op.
// The table is made on demand; everything here is a pure function of its arguments, any thread.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/ops.h"

namespace ds4 {

struct OpData;

enum class ArrayUse : uint8_t {
  kInput,    // unchanged by the op
  kInOut,    // read and written
  kOutput,   // written
  kScratch,  // whatever the op leaves there
};

// Empty when `actual` may stand for `expected`, else the first difference in words.
using Comparison = std::function<std::string(const OpData& data, std::span<const std::byte> expected,
                                             std::span<const std::byte> actual)>;
// Allowed error of element i of an F32 output.
using Bound = std::function<double(const OpData& data, int64_t i)>;

struct OpArray {
  std::string name;
  ArrayUse use = ArrayUse::kInput;
  bool per_row = false;  // the outermost axis is the batch's rows
  std::optional<WeightUse> weight_use =
      {};  // set: placed as a weight, and the backend is asked whether it takes the type
  DType type = DType::kF32;
  Shape shape = {};
  std::vector<std::byte> bytes = {};  // before the op
  Comparison compare = {};            // of kInOut and kOutput; empty: bitwise
};

// A case's arrays on some backend, by name.
class OpViews {
 public:
  void add(const OpArray& array, const TensorView& view) { views_[array.name] = {view, array.per_row}; }
  void set_spans(std::vector<SequenceSpan> spans) { spans_ = std::move(spans); }

  const TensorView& operator[](std::string_view name) const;
  BatchView batch() const;
  KvMemory kv() const { return {(*this)["frontiers"], (*this)["pages"], (*this)["page_table"]}; }
  // Only rows [first, first + n) of the batch, which must lie in one span if there are spans.
  OpViews rows(int32_t first, int32_t n) const;

 private:
  struct Entry {
    TensorView view;
    bool per_row = false;
  };
  std::map<std::string, Entry, std::less<>> views_;
  std::vector<SequenceSpan> spans_;
};

struct OpData {
  NumericProfile profile = NumericProfile::kCanonical;
  int32_t n_rows = 0;
  std::vector<SequenceSpan> spans;  // of ops on KV memory
  bool splits_by_span = false;      // rows of a span need each other: only whole spans give the same result alone
  std::vector<OpArray> arrays;
  std::function<void(Ops&, const OpViews&)> run;
  std::function<void(Ops&, const OpViews&)> run_composed;  // fused ops: the body spelled with plain ops

  const OpArray& array(std::string_view name) const;
  const float* f32(std::string_view name) const;
  const int32_t* i32(std::string_view name) const;
};

struct OpCase {
  std::string op;    // the method of Ops
  std::string name;  // unique, of letters, digits and underscores
  std::function<OpData(NumericProfile)> make;
};

std::vector<OpCase> op_cases();

// Every element of an F32 output within its bound. NaN is never within.
Comparison within(Bound bound);
Comparison within(std::vector<double> bounds);
// Bitwise, and which element differs first.
std::string compare_bytes(const OpArray& array, std::span<const std::byte> expected, std::span<const std::byte> actual);

// Half a unit in the last place of 1.0f: the largest relative error of one rounded F32 operation.
inline constexpr double kUnit = 0x1p-24;
// Below this a backend may lose everything: it may flush subnormals, and exp overflows where a sigmoid reaches it.
inline constexpr double kTiny = 0x1p-118;

}  // namespace ds4
