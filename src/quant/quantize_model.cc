#include "quant/quantize_model.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "base/thread_pool.h"
#include "gguf/dequantize.h"
#include "gguf/quantize.h"
#include "gguf/writer.h"
#include "quant/checksum.h"
#include "quant/partial_file.h"

namespace ds4 {

namespace {

constexpr int64_t kPieceElements = 1 << 20;  // decoded at a time
constexpr int64_t kGrainElements = 1 << 14;  // for one thread
constexpr float kMaxMagnitude = 65504.0f;    // F16, which also holds the scales of quantised types

bool is_table(const ExpectedTensor& tensor) { return tensor.spec->use == WeightUse::kTokenTable; }

bool holds(DType type, std::span<const float> values) {
  const bool has_f16 = type != DType::kF32 && type != DType::kBF16 && type != DType::kMXFP4;
  const float limit = has_f16 ? kMaxMagnitude : std::numeric_limits<float>::max();
  return std::ranges::all_of(values, [limit](float value) { return std::fabs(value) <= limit; });
}

void add_error(std::span<const float> wanted, std::span<const float> found, const float* weights, TensorError& sums) {
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double value = wanted[i];
    const double difference = value - static_cast<double>(found[i]);
    const double weight = weights != nullptr ? weights[i] : 1.0;
    sums.error += difference * difference;
    sums.norm += value * value;
    sums.weighted_error += weight * difference * difference;
    sums.weighted_norm += weight * value * value;
  }
}

// Exact, so that a report does not depend on interruptions.
std::string to_note(const TensorError& error) {
  return fmt::format("{:016x} {:016x} {:016x} {:016x}", std::bit_cast<uint64_t>(error.error),
                     std::bit_cast<uint64_t>(error.norm), std::bit_cast<uint64_t>(error.weighted_error),
                     std::bit_cast<uint64_t>(error.weighted_norm));
}

// Of a note that to_note() wrote: the journal's checksums cover it.
TensorError from_note(std::string_view note) {
  TensorError error;
  for (double* member : {&error.error, &error.norm, &error.weighted_error, &error.weighted_norm}) {
    uint64_t bits = 0;
    const std::string_view digits = note.substr(0, 16);
    std::from_chars(digits.begin(), digits.end(), bits, 16);
    *member = std::bit_cast<double>(bits);
    note.remove_prefix(std::min<size_t>(note.size(), 17));
  }
  return error;
}

// Importance with a mean of 1 in every slice, so that slices that were used more do not outweigh others in a report.
class RowWeights {
 public:
  explicit RowWeights(ColumnImportance importance)
      : n_columns_(static_cast<size_t>(importance.n_columns)),
        rows_per_slice_(importance.rows_per_slice),
        means_(std::move(importance.means)) {
    for (size_t first = 0; first < means_.size(); first += n_columns_) {
      const std::span slice = std::span(means_).subspan(first, n_columns_);
      double sum = 0;
      for (const float mean : slice) sum += static_cast<double>(mean);
      const double factor = sum > 0 ? static_cast<double>(n_columns_) / sum : 0.0;
      for (float& mean : slice) mean = sum > 0 ? static_cast<float>(mean * factor) : 1.0f;
    }
  }

  // Null: all equal.
  const float* of_row(int64_t row) const {
    return means_.empty() ? nullptr : means_.data() + static_cast<size_t>(row / rows_per_slice_) * n_columns_;
  }

 private:
  size_t n_columns_;
  int64_t rows_per_slice_;
  std::vector<float> means_;
};

struct Plan {
  QuantizePlan summary;
  GgufDirectory directory;
  GgufDirectory::Layout layout;
};

Result<Plan> make_plan(const ModelSource& source, const QuantizeOptions& options) {
  const std::span<const ExpectedTensor> tensors = source.tensors();
  TypePlan types = TRY(plan_types(tensors, *options.recipe, options.overrides));
  Plan plan;
  source.write_metadata(plan.directory.metadata());
  for (const MetadataEntry& entry : options.metadata.entries()) {
    plan.directory.metadata().set_value(entry.key, entry.value);
  }
  ProblemList problems;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ExpectedTensor& tensor = tensors[i];
    TRY(plan.directory.add_tensor(tensor.name, types.types[i], tensor.shape));
    bool has_importance = false;
    if (options.imatrix != nullptr && !is_table(tensor)) {
      const auto importance = options.imatrix->importance(tensor.name, tensor.shape);
      if (!importance.ok()) problems.add("{}", importance.error().message);
      has_importance = importance.ok() && !importance.value().means.empty();
    }
    const std::string_view group = is_table(tensor) ? "token tables" : weight_group_name(weight_group(*tensor.spec));
    plan.summary.tensors.push_back({tensor.name, group, types.types[i], tensor.shape, 0, has_importance});
  }
  TRY(problems.to_result(ErrorCode::kInvalidArgument, "importance matrix"));
  plan.layout = TRY(plan.directory.layout());
  for (size_t i = 0; i < tensors.size(); ++i) plan.summary.tensors[i].size_bytes = plan.layout.tensors[i].size_bytes;
  plan.summary.fallbacks = std::move(types.fallbacks);
  plan.summary.file_size_bytes = plan.layout.file_size_bytes;
  return plan;
}

uint64_t fingerprint_of(const Plan& plan, const ModelSource& source, const Imatrix* imatrix) {
  uint64_t hash = checksum64(plan.layout.header, kQuantizerVersion ^ source.fingerprint());
  if (imatrix == nullptr) return hash;
  for (const ImatrixEntry& entry : imatrix->entries) {
    hash = checksum64(entry.tensor, hash);
    hash = checksum64(std::as_bytes(std::span(entry.sums)), hash);
    hash = checksum64(std::as_bytes(std::span(entry.counts)), hash);
  }
  return hash;
}

FilePlan file_plan_of(const Plan& plan, uint64_t fingerprint) {
  FilePlan file{fingerprint, {{0, plan.layout.header.size()}}, plan.layout.file_size_bytes};
  for (const auto& [offset_bytes, size_bytes] : plan.layout.tensors)
    file.sections.push_back({offset_bytes, size_bytes});
  return file;
}

// One tensor on its way into the file.
struct TensorTask {
  size_t index;
  DType type;
  int64_t row_elements;
  size_t bytes_per_row;
  const RowWeights* weights;
};

class TensorStream {
 public:
  TensorStream(const ModelSource& source, PartialFile& file, int threads)
      : source_(source), file_(file), pool_(threads) {}

  // Calls `done` with the number of elements after every piece.
  Result<TensorError> write(const TensorTask& task, const std::function<void(int64_t)>& done) {
    const ExpectedTensor& tensor = source_.tensors()[task.index];
    const int64_t n_rows = tensor.shape.elements() / task.row_elements;
    const int64_t piece_rows = std::max<int64_t>(kPieceElements / task.row_elements, 1);
    const int64_t grain_rows = std::max<int64_t>(kGrainElements / task.row_elements, 1);
    TensorError sums;
    for (int64_t first = 0; first < n_rows; first += piece_rows) {
      const int64_t count = std::min(piece_rows, n_rows - first);
      bytes_.resize(static_cast<size_t>(count) * task.bytes_per_row);
      errors_.assign(static_cast<size_t>(count), {});
      std::atomic<bool> good = true;
      pool_.parallel_for(count, grain_rows, [&](int64_t from, int64_t to) {
        if (!encode_rows(task, first, from, to)) good = false;
      });
      if (!good) {
        return make_error(ErrorCode::kCorrupt, "tensor {}: a value that is not finite or too large for {}", tensor.name,
                          dtype_name(task.type));
      }
      for (const TensorError& error : errors_) sums += error;
      TRY(file_.append(bytes_));
      done(count * task.row_elements);
    }
    return sums;
  }

 private:
  // Rows first + from to first + to; false as soon as the type does not hold their values.
  bool encode_rows(const TensorTask& task, int64_t first, int64_t from, int64_t to) {
    std::vector<float> values(static_cast<size_t>(task.row_elements));
    std::vector<float> back(values.size());
    for (int64_t i = from; i < to; ++i) {
      const int64_t row = first + i;
      const std::span out = std::span(bytes_).subspan(static_cast<size_t>(i) * task.bytes_per_row, task.bytes_per_row);
      source_.read_row(task.index, row, values);
      if (!holds(task.type, values)) return false;
      const float* weights = task.weights->of_row(row);
      if (!source_.copy_row(task.index, row, task.type, out)) {
        quantize_row(task.type, values.data(), weights, out.data(), task.row_elements);
      }
      dequantize_row(task.type, out.data(), back.data(), task.row_elements);
      add_error(values, back, weights, errors_[static_cast<size_t>(i)]);
    }
    return true;
  }

  const ModelSource& source_;
  PartialFile& file_;
  ThreadPool pool_;
  std::vector<std::byte> bytes_;
  std::vector<TensorError> errors_;
};

Result<ColumnImportance> importance_of(const Imatrix* imatrix, const ExpectedTensor& tensor) {
  if (imatrix == nullptr) return ColumnImportance{};
  return imatrix->importance(tensor.name, tensor.shape);
}

double ratio_of(double error, double norm) { return norm > 0 ? std::sqrt(error / norm) : 0.0; }

}  // namespace

TensorError& TensorError::operator+=(const TensorError& other) {
  error += other.error;
  norm += other.norm;
  weighted_error += other.weighted_error;
  weighted_norm += other.weighted_norm;
  return *this;
}

double TensorError::relative_rmse() const { return ratio_of(error, norm); }
double TensorError::weighted_relative_rmse() const { return ratio_of(weighted_error, weighted_norm); }

Result<QuantizePlan> plan_model(const ModelSource& source, const QuantizeOptions& options) {
  return TRY(make_plan(source, options)).summary;
}

Result<QuantizeReport> quantize_model(const ModelSource& source, const QuantizeOptions& options,
                                      const std::string& path) {
  Plan plan = TRY(make_plan(source, options));
  const uint64_t fingerprint = fingerprint_of(plan, source, options.imatrix);
  PartialFile file = TRY(PartialFile::open(path, file_plan_of(plan, fingerprint), options.restart));
  if (file.notes().empty()) {
    TRY(file.append(plan.layout.header));
    TRY(file.complete_section(""));
  }
  const std::span<const ExpectedTensor> tensors = source.tensors();
  QuantizeReport report;
  report.resumed_tensors = file.notes().size() - 1;
  QuantizeProgress progress{.resumed_tensors = report.resumed_tensors};
  for (const ExpectedTensor& tensor : tensors) progress.total_elements += tensor.shape.elements();
  const auto advance = [&](int64_t elements) {
    progress.done_elements += elements;
    if (options.progress) options.progress(progress);
  };
  TensorStream stream(source, file, options.threads);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const ExpectedTensor& tensor = tensors[i];
    progress.tensor = tensor.name;
    if (i < report.resumed_tensors) {
      report.errors.push_back(from_note(file.notes()[i + 1]));
      progress.done_elements += tensor.shape.elements();
      continue;
    }
    advance(0);
    TensorError error;
    if (is_table(tensor)) {
      const std::vector<int32_t> experts = source.token_table(i);
      TRY(file.append(std::as_bytes(std::span(experts))));
      advance(tensor.shape.elements());
    } else {
      const RowWeights weights(TRY(importance_of(options.imatrix, tensor)));
      const DType type = plan.summary.tensors[i].type;
      const int64_t row_elements = tensor.shape.back();
      auto written = stream.write({i, type, row_elements, TRY(row_bytes(type, row_elements)), &weights}, advance);
      // A source with bad values will not get better: nothing to go on with.
      if (!written.ok() && written.error().code == ErrorCode::kCorrupt) file.discard();
      error = TRY(std::move(written));
    }
    TRY(file.complete_section(to_note(error)));
    report.errors.push_back(error);
  }
  TRY(file.commit());
  report.plan = std::move(plan.summary);
  return report;
}

}  // namespace ds4
