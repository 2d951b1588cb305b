#include "quant/checkpoint_source.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

#include "quant/source_matrix.h"

namespace ds4 {

namespace {

constexpr std::string_view kDraftPrefix = "mtp.";
constexpr std::string_view kExpertPlaceholder = "{}";

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

Hyperparams with_stored_layers(Hyperparams hyperparams, bool has_draft_layer) {
  hyperparams.n_nextn_layer = has_draft_layer ? 1 : 0;
  const auto n_layers = static_cast<size_t>(hyperparams.n_stored_layer());
  for (std::vector<float>* list : {&hyperparams.swiglu_clamp, &hyperparams.swiglu_clamp_shared}) {
    list->resize(n_layers, list->empty() ? 0.0f : list->back());
  }
  return hyperparams;
}

class CheckpointModel final : public ModelSource {
 public:
  CheckpointModel(const Checkpoint& checkpoint, Hyperparams hyperparams)
      : checkpoint_(checkpoint), hyperparams_(std::move(hyperparams)) {}

  void add(const ExpectedTensor& tensor, TensorSource source) {
    tensors_.push_back(tensor);
    sources_.push_back(std::move(source));
  }

  const std::string& path() const override { return checkpoint_.folder(); }
  std::span<const ExpectedTensor> tensors() const override { return tensors_; }
  void write_metadata(Metadata& metadata) const override { hyperparams_.write(metadata); }

  uint64_t fingerprint() const override {
    uint64_t hash = 0;
    for (const auto& [name, tensor] : checkpoint_.tensors()) {
      hash = tensor_fingerprint(name, source_type_name(tensor.type), tensor.shape, tensor.bytes, hash);
    }
    return hash;
  }

  // FP8 and FP4 are the form in which the model was trained.
  std::string lossy_types() const override { return ""; }

  void read_row(size_t tensor, int64_t row, std::span<float> out) const override {
    ds4::read_row(sources_[tensor], row, out);
  }

  bool copy_row(size_t tensor, int64_t row, DType type, std::span<std::byte> out) const override {
    const TensorSource& source = sources_[tensor];
    if (type != DType::kMXFP4 || source.side_by_side || !source.parts[0].is_fp4()) return false;
    const int64_t part_rows = source.parts[0].n_rows;
    repack_row_as_mxfp4(source.parts[static_cast<size_t>(row / part_rows)], row % part_rows, out.data());
    return true;
  }

  std::vector<int32_t> token_table(size_t tensor) const override {
    const SourceTensor& table = *sources_[tensor].table;
    std::vector<int32_t> experts(static_cast<size_t>(table.shape.elements()));
    for (size_t i = 0; i < experts.size(); ++i) {
      experts[i] = static_cast<int32_t>(table_value(table, static_cast<int64_t>(i)));
    }
    return experts;
  }

 private:
  const Checkpoint& checkpoint_;
  Hyperparams hyperparams_;
  std::vector<ExpectedTensor> tensors_;
  std::vector<TensorSource> sources_;
};

}  // namespace

Result<CheckpointSource> open_checkpoint_source(const Checkpoint& checkpoint, const Hyperparams& config,
                                                const CheckpointSourceOptions& options) {
  const auto draft = checkpoint.tensors().lower_bound(kDraftPrefix);
  const bool has_draft_layer =
      options.with_draft_layer && draft != checkpoint.tensors().end() && draft->first.starts_with(kDraftPrefix);
  const Hyperparams hyperparams = with_stored_layers(config, has_draft_layer);

  ProblemList problems;
  SourceFinder finder(checkpoint, hyperparams, problems);
  auto model = std::make_unique<CheckpointModel>(checkpoint, hyperparams);
  for (const ExpectedTensor& tensor : expected_tensors(hyperparams)) {
    if (auto source = finder.find(tensor)) model->add(tensor, std::move(*source));
  }
  if (!options.allow_extra) finder.report_extra_tensors(has_draft_layer);
  TRY(problems.to_result(ErrorCode::kCorrupt, checkpoint.folder()));
  return CheckpointSource{std::move(model), has_draft_layer};
}

}  // namespace ds4
