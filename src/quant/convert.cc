#include "quant/convert.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <set>

#include "base/thread_pool.h"
#include "gguf/quantize.h"
#include "gguf/writer.h"
#include "model/weight_table.h"
#include "quant/source_matrix.h"

namespace ds4 {

namespace {

constexpr std::string_view kDraftPrefix = "mtp.";
constexpr std::string_view kExpertPlaceholder = "{}";
constexpr int64_t kPieceElements = 1 << 20;  // decoded at a time
constexpr int64_t kGrainElements = 1 << 15;  // for one thread
constexpr float kMaxMagnitude = 65504.0f;    // F16, which also holds the scales of quantised types

// Where the rows of one tensor come from.
struct TensorSource {
  std::vector<SourceMatrix> parts;  // one below the other, or side by side
  bool side_by_side = false;
  const SourceTensor* table = nullptr;  // instead of parts: integers
};

void read_row(const TensorSource& source, int64_t row, std::span<float> out) {
  if (!source.side_by_side) {
    const int64_t part_rows = source.parts[0].n_rows;
    return decode_row(source.parts[static_cast<size_t>(row / part_rows)], row % part_rows, out);
  }
  for (const SourceMatrix& part : source.parts) {
    decode_row(part, row, out.first(static_cast<size_t>(part.row_elements)));
    out = out.subspan(static_cast<size_t>(part.row_elements));
  }
}

std::string native_prefix(const Hyperparams& hyperparams, int32_t layer) {
  if (layer < 0) return "";
  if (layer < hyperparams.n_layer) return fmt::format("layers.{}.", layer);
  return fmt::format("{}{}.", kDraftPrefix, layer - hyperparams.n_layer);
}

int64_t table_value(const SourceTensor& table, int64_t index) {
  const std::byte* address = table.bytes.data() + index * source_type_bytes(table.type);
  if (table.type == SourceType::kI64) {
    int64_t value;
    std::memcpy(&value, address, sizeof(value));
    return value;
  }
  int32_t value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

// Finds the sources of all tensors and collects what is wrong with them.
class SourceFinder {
 public:
  SourceFinder(const Checkpoint& checkpoint, const Hyperparams& hyperparams, ProblemList& problems)
      : checkpoint_(checkpoint), hyperparams_(hyperparams), problems_(problems) {}

  // Absent optional tensors leave no source and no problem.
  std::optional<TensorSource> find(const ExpectedTensor& tensor) {
    const std::string name = native_prefix(hyperparams_, tensor.layer) + std::string(tensor.spec->native);
    if (!tensor.spec->required && checkpoint_.find(name) == nullptr) return std::nullopt;
    if (tensor.spec->use == WeightUse::kTokenTable) return find_table(name, tensor.shape);
    TensorSource source;
    if (tensor.spec->use == WeightUse::kExperts) {
      const Shape expert_shape(tensor.shape.extents().subspan(1));
      const size_t at = name.find(kExpertPlaceholder);
      for (int64_t expert = 0; expert < tensor.shape[0]; ++expert) {
        std::string expert_name = name;
        expert_name.replace(at, kExpertPlaceholder.size(), std::to_string(expert));
        add_part(expert_name, expert_shape, source);
      }
    } else if (tensor.spec->native.empty()) {
      const Shape half{tensor.shape[0], tensor.shape[1] / 2};
      source.side_by_side = true;
      add_part(name + "e_proj.weight", half, source);
      add_part(name + "h_proj.weight", half, source);
    } else {
      add_part(name, tensor.shape, source);
    }
    return source;
  }

  void report_extra_tensors(bool with_draft_layer) {
    for (const auto& [name, tensor] : checkpoint_.tensors()) {
      if (used_.contains(name) || (!with_draft_layer && name.starts_with(kDraftPrefix))) continue;
      problems_.add("tensor {} {} has no place in the model", name, tensor.shape.to_string());
    }
  }

 private:
  void add_part(const std::string& name, const Shape& shape, TensorSource& source) {
    if (const SourceTensor* found = checkpoint_.find(name)) used_.insert(found->name);
    const auto matrix = find_source_matrix(checkpoint_, name, shape, problems_);
    if (!matrix) return;
    if (matrix->scale != nullptr) used_.insert(matrix->scale->name);
    source.parts.push_back(*matrix);
  }

  std::optional<TensorSource> find_table(const std::string& name, const Shape& shape) {
    const SourceTensor* table = checkpoint_.find(name);
    if (table == nullptr) {
      problems_.add("tensor {} is missing", name);
      return std::nullopt;
    }
    used_.insert(table->name);
    if ((table->type != SourceType::kI64 && table->type != SourceType::kI32) || table->shape != shape) {
      problems_.add("tensor {}: expected I64 or I32 {}, found {} {}", name, shape.to_string(),
                    source_type_name(table->type), table->shape.to_string());
      return std::nullopt;
    }
    for (int64_t i = 0; i < shape.elements(); ++i) {
      const int64_t expert = table_value(*table, i);
      if (expert >= 0 && expert < hyperparams_.n_expert) continue;
      problems_.add("tensor {}: element {}: expected an expert from 0 to {}, found {}", name, i,
                    hyperparams_.n_expert - 1, expert);
      return std::nullopt;
    }
    return TensorSource{{}, false, table};
  }

  const Checkpoint& checkpoint_;
  const Hyperparams& hyperparams_;
  ProblemList& problems_;
  std::set<std::string_view> used_;  // names of tensors in checkpoint_
};

bool holds(DType type, std::span<const float> values) {
  const bool has_f16 = type != DType::kF32 && type != DType::kBF16 && type != DType::kMXFP4;
  const float limit = has_f16 ? kMaxMagnitude : std::numeric_limits<float>::max();
  return std::ranges::all_of(values, [limit](float value) { return std::fabs(value) <= limit; });
}

// Rows [first, last) in their final form; false as soon as the type does not hold their values.
bool encode_rows(const TensorSource& source, DType type, int64_t first, int64_t last, std::span<std::byte> out) {
  const SourceMatrix& sample = source.parts[0];
  const bool repacks = type == DType::kMXFP4 && !source.side_by_side && sample.is_fp4();
  const int64_t n = sample.row_elements * (source.side_by_side ? static_cast<int64_t>(source.parts.size()) : 1);
  const size_t bytes_per_row = out.size() / static_cast<size_t>(last - first);
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t row = first; row < last; ++row) {
    read_row(source, row, values);
    if (!holds(type, values)) return false;
    if (repacks) {
      repack_row_as_mxfp4(source.parts[static_cast<size_t>(row / sample.n_rows)], row % sample.n_rows, out.data());
    } else {
      quantize_row(type, values.data(), out.data(), n);
    }
    out = out.subspan(bytes_per_row);
  }
  return true;
}

class TensorStream {
 public:
  TensorStream(GgufWriter& writer, int threads) : writer_(writer), pool_(threads) {}

  Result<void> write(const ExpectedTensor& tensor, DType type, const TensorSource& source) {
    if (source.table != nullptr) return write_table(*source.table);
    const int64_t row_elements = tensor.shape.back();
    const int64_t n_rows = tensor.shape.elements() / row_elements;
    const int64_t piece_rows = std::max<int64_t>(kPieceElements / row_elements, 1);
    const int64_t grain_rows = std::max<int64_t>(kGrainElements / row_elements, 1);
    const auto bytes_per_row = static_cast<int64_t>(TRY(row_bytes(type, row_elements)));
    for (int64_t first = 0; first < n_rows; first += piece_rows) {
      const int64_t count = std::min(piece_rows, n_rows - first);
      bytes_.resize(static_cast<size_t>(count * bytes_per_row));
      std::atomic<bool> good = true;
      pool_.parallel_for(count, grain_rows, [&](int64_t from, int64_t to) {
        const auto rows = std::span(bytes_).subspan(static_cast<size_t>(from * bytes_per_row),
                                                    static_cast<size_t>((to - from) * bytes_per_row));
        if (!encode_rows(source, type, first + from, first + to, rows)) good = false;
      });
      if (!good) {
        return make_error(ErrorCode::kCorrupt, "tensor {}: a value that is not finite or too large for {}", tensor.name,
                          dtype_name(type));
      }
      TRY(writer_.write_tensor_data(bytes_));
    }
    return {};
  }

 private:
  Result<void> write_table(const SourceTensor& table) {
    std::vector<int32_t> experts(static_cast<size_t>(table.shape.elements()));
    for (size_t i = 0; i < experts.size(); ++i) {
      experts[i] = static_cast<int32_t>(table_value(table, static_cast<int64_t>(i)));
    }
    return writer_.write_tensor_data(std::as_bytes(std::span(experts)));
  }

  GgufWriter& writer_;
  ThreadPool pool_;
  std::vector<std::byte> bytes_;
};

Hyperparams with_stored_layers(Hyperparams hyperparams, bool has_draft_layer) {
  hyperparams.n_nextn_layer = has_draft_layer ? 1 : 0;
  const auto n_layers = static_cast<size_t>(hyperparams.n_stored_layer());
  for (std::vector<float>* list : {&hyperparams.swiglu_clamp, &hyperparams.swiglu_clamp_shared}) {
    list->resize(n_layers, list->empty() ? 0.0f : list->back());
  }
  return hyperparams;
}

}  // namespace

Result<ConvertReport> convert_checkpoint(const Checkpoint& checkpoint, const Hyperparams& config,
                                         const ConvertOptions& options, const std::string& path) {
  const auto draft = checkpoint.tensors().lower_bound(kDraftPrefix);
  const bool has_draft_layer =
      options.with_draft_layer && draft != checkpoint.tensors().end() && draft->first.starts_with(kDraftPrefix);
  const Hyperparams hyperparams = with_stored_layers(config, has_draft_layer);

  ProblemList problems;
  SourceFinder finder(checkpoint, hyperparams, problems);
  std::vector<ExpectedTensor> tensors;
  std::vector<TensorSource> sources;
  for (const ExpectedTensor& tensor : expected_tensors(hyperparams)) {
    if (auto source = finder.find(tensor)) {
      tensors.push_back(tensor);
      sources.push_back(std::move(*source));
    }
  }
  if (!options.allow_extra) finder.report_extra_tensors(has_draft_layer);
  TRY(problems.to_result(ErrorCode::kCorrupt, checkpoint.folder()));
  TypePlan plan = TRY(plan_types(tensors, *options.recipe, options.overrides));

  GgufWriter writer = TRY(GgufWriter::create(path));
  hyperparams.write(writer.metadata());
  for (const MetadataEntry& entry : options.metadata.entries()) writer.metadata().set_value(entry.key, entry.value);
  for (size_t i = 0; i < tensors.size(); ++i) {
    TRY(writer.add_tensor(tensors[i].name, plan.types[i], tensors[i].shape));
  }
  TensorStream stream(writer, options.threads);
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (options.progress) options.progress(i, tensors.size(), tensors[i].name);
    TRY(stream.write(tensors[i], plan.types[i], sources[i]));
  }
  TRY(writer.finish());
  return ConvertReport{tensors.size(), has_draft_layer, std::move(plan.fallbacks)};
}

}  // namespace ds4
