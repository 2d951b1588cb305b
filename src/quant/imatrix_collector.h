#pragma once

// Collects an importance matrix while a model runs: an Ops that adds up x^2 of every matrix's input before it passes
// the call on (results do not change beyond the rounding between a fused step and its parts). Use it through
// BackendWithOps. Experts are counted per expert: gate and up see the FFN's input, down the routed product with
// the router's weight in it. One thread, that of the steps.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/backend.h"
#include "model/model.h"
#include "ops/forwarding_ops.h"
#include "quant/imatrix.h"

namespace ds4 {

class ImatrixCollector final : public ForwardingOps {
 public:
  // Both must outlive this object; the model was loaded on that backend.
  ImatrixCollector(Backend& backend, const Model& model);

  // What was seen so far, in the order of the weight table; matrices that no step used are left out. The caller adds
  // where the text came from. Error: the first failure of the device since the collector was made.
  Result<Imatrix> statistics() const;

  void matmul(const TensorView& weight, const TensorView& x, const TensorView& out) override;
  void matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) override;
  void experts(const ExpertsArgs& args, const TensorView& out) override;

 private:
  // Sums of one tensor's inputs; made when the tensor is used first.
  struct Accumulator {
    std::string tensor;
    int64_t n_columns = 0;
    std::vector<double> sums;  // [n_slices, n_columns]
    std::vector<double> counts;
  };
  // Where a weight lies in the backend's memory: what tells weights apart in a call.
  using WeightKey = std::pair<const Buffer*, uint64_t>;

  Accumulator* find(const TensorView& weight, int64_t n_slices);
  static void add_input(Accumulator& accumulator, int64_t slice, const float* x);
  // Rows [n, n_groups * n_columns]: group g of each row belongs to slice g.
  void add_rows(const TensorView& weight, const TensorView& x, int64_t n_groups);
  // x [R, n_columns] or [R, K, n_columns]: slot (r, k) belongs to slice ids[r][k].
  void add_slots(const TensorView& weight, const std::vector<float>& x, const std::vector<int32_t>& ids,
                 int64_t n_used);
  template <class T>
  std::vector<T> read(const TensorView& view);
  // Memory for `mid` of ExpertsArgs, or an empty view and a failure.
  TensorView mid_memory(const Shape& shape);

  Backend& backend_;
  std::vector<Accumulator> accumulators_;  // of every matrix, in the order of the weight table
  std::map<WeightKey, size_t> index_;
  std::unique_ptr<Buffer> mid_;
  Result<void> failure_;
};

}  // namespace ds4
