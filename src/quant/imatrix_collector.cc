#include "quant/imatrix_collector.h"

#include <algorithm>
#include <limits>

#include "model/weight_table.h"

namespace ds4 {

namespace {

bool is_matrix(WeightUse use) {
  return use == WeightUse::kMatmul || use == WeightUse::kGroupedMatmul || use == WeightUse::kExperts;
}

}  // namespace

ImatrixCollector::ImatrixCollector(Backend& backend, const Model& model)
    : ForwardingOps(backend.ops()), backend_(backend) {
  for (const ExpectedTensor& expected : expected_tensors(model.hyperparams)) {
    if (!is_matrix(expected.spec->use)) continue;
    const TensorView& view = model.weights.view(*expected.spec, expected.layer);
    if (!view) continue;  // optional and not there
    index_.try_emplace(WeightKey(view.buffer, view.offset_bytes), accumulators_.size());
    accumulators_.push_back({.tensor = expected.name});
  }
}

Result<Imatrix> ImatrixCollector::statistics() const {
  if (!failure_.ok()) return failure_.error();
  Imatrix imatrix;
  for (const Accumulator& accumulator : accumulators_) {
    if (accumulator.sums.empty()) continue;
    // As F32, which is what files hold.
    if (std::ranges::any_of(accumulator.sums, [](double sum) { return !(sum <= std::numeric_limits<float>::max()); })) {
      return make_error(ErrorCode::kInternal, "{}: an input of this matrix is not finite", accumulator.tensor);
    }
    imatrix.entries.push_back(
        {accumulator.tensor, {accumulator.sums.begin(), accumulator.sums.end()}, accumulator.counts});
  }
  return imatrix;
}

void ImatrixCollector::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  add_rows(weight, x, 1);
  ForwardingOps::matmul(weight, x, out);
}

void ImatrixCollector::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups,
                                      const TensorView& out) {
  add_rows(weight, x, n_groups);
  ForwardingOps::matmul_grouped(weight, x, n_groups, out);
}

void ImatrixCollector::experts(const ExpertsArgs& args, const TensorView& out) {
  const int64_t n_used = args.ids.shape[1];
  ExpertsArgs with_mid = args;
  if (!with_mid.mid) with_mid.mid = mid_memory({args.ids.shape[0], n_used, args.gate.shape[1]});
  ForwardingOps::experts(with_mid, out);
  if (!with_mid.mid) return;
  const std::vector<int32_t> ids = read<int32_t>(args.ids);
  const std::vector<float> x = read<float>(args.x);
  add_slots(args.gate, x, ids, n_used);
  add_slots(args.up, x, ids, n_used);
  add_slots(args.down, read<float>(with_mid.mid), ids, 1);
}

ImatrixCollector::Accumulator* ImatrixCollector::find(const TensorView& weight, int64_t n_slices) {
  const auto found = index_.find(WeightKey(weight.buffer, weight.offset_bytes));
  if (found == index_.end()) return nullptr;
  Accumulator& accumulator = accumulators_[found->second];
  if (accumulator.sums.empty()) {
    accumulator.n_columns = weight.shape.back();
    accumulator.sums.resize(static_cast<size_t>(n_slices * accumulator.n_columns));
    accumulator.counts.resize(static_cast<size_t>(n_slices));
  }
  return &accumulator;
}

void ImatrixCollector::add_input(Accumulator& accumulator, int64_t slice, const float* x) {
  double* sums = accumulator.sums.data() + slice * accumulator.n_columns;
  for (int64_t i = 0; i < accumulator.n_columns; ++i) sums[i] += static_cast<double>(x[i]) * x[i];
  accumulator.counts[static_cast<size_t>(slice)] += 1;
}

void ImatrixCollector::add_rows(const TensorView& weight, const TensorView& x, int64_t n_groups) {
  Accumulator* accumulator = x.elements() == 0 ? nullptr : find(weight, n_groups);
  if (accumulator == nullptr) return;
  const std::vector<float> values = read<float>(x);
  const int64_t n_pieces = x.elements() / accumulator->n_columns;
  for (int64_t i = 0; i < n_pieces; ++i)
    add_input(*accumulator, i % n_groups, values.data() + i * accumulator->n_columns);
}

void ImatrixCollector::add_slots(const TensorView& weight, const std::vector<float>& x, const std::vector<int32_t>& ids,
                                 int64_t n_used) {
  Accumulator* accumulator = find(weight, weight.shape[0]);
  if (accumulator == nullptr) return;
  for (int64_t slot = 0; slot < std::ssize(ids); ++slot) {
    add_input(*accumulator, ids[static_cast<size_t>(slot)], x.data() + slot / n_used * accumulator->n_columns);
  }
}

template <class T>
std::vector<T> ImatrixCollector::read(const TensorView& view) {
  std::vector<T> values(static_cast<size_t>(view.elements()));
  backend_.download(view, std::as_writable_bytes(std::span(values)));
  const Result<void> finished = backend_.finish();
  if (failure_.ok() && !finished.ok()) failure_ = finished;
  return values;
}

TensorView ImatrixCollector::mid_memory(const Shape& shape) {
  const uint64_t size_bytes = static_cast<uint64_t>(shape.elements()) * sizeof(float);
  if (mid_ == nullptr || mid_->size_bytes() < size_bytes) {
    auto memory = backend_.allocate(size_bytes);
    if (!memory.ok()) {
      if (failure_.ok()) failure_ = memory.take_error();
      return {};
    }
    mid_ = memory.take_value();
  }
  return {mid_.get(), 0, DType::kF32, shape};
}

}  // namespace ds4
