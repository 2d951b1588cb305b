#include "quant/gguf_source.h"

#include <cstring>
#include <set>

#include <fmt/ranges.h>

#include "gguf/dequantize.h"
#include "model/hyperparams.h"
#include "quant/source_matrix.h"

namespace ds4 {

namespace {

bool describes_quantisation(std::string_view key) {
  return key.starts_with("quantize.") || key == "general.file_type" || key == "general.quantization_version";
}

class GgufModel final : public ModelSource {
 public:
  explicit GgufModel(const GgufFile& file) : file_(file) {}

  // The tensors of the table that the file holds; what is wrong goes to `problems`.
  void bind(const Hyperparams& hyperparams, bool allow_extra, ProblemList& problems) {
    std::set<std::string_view> known;
    for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
      const TensorInfo* info = file_.find(expected.name);
      if (info == nullptr) {
        if (expected.spec->required) problems.add("tensor {} is missing", expected.name);
        continue;
      }
      known.insert(info->name);
      if (!same_shape(info->shape, expected.shape)) {
        problems.add("tensor {}: expected shape {}, found {}", expected.name, expected.shape.to_string(),
                     info->shape.to_string());
      } else if (check_type(expected, *info, hyperparams.n_expert, problems)) {
        TensorView view = file_.view(*info);
        view.shape = expected.shape;
        tensors_.push_back(expected);
        views_.push_back(view);
      }
    }
    for (const TensorInfo& info : file_.tensors()) {
      if (allow_extra || known.contains(info.name)) continue;
      problems.add("tensor {} {} has no place in the model", quoted_name(info.name), info.shape.to_string());
    }
  }

  const std::string& path() const override { return file_.path(); }
  std::span<const ExpectedTensor> tensors() const override { return tensors_; }

  void write_metadata(Metadata& metadata) const override {
    for (const MetadataEntry& entry : file_.metadata().entries()) {
      if (!describes_quantisation(entry.key)) metadata.set_value(entry.key, entry.value);
    }
  }

  uint64_t fingerprint() const override {
    uint64_t hash = 0;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      const TensorView& view = views_[i];
      const std::span bytes(view.data<std::byte>(), view.size_bytes());
      hash = tensor_fingerprint(tensors_[i].name, dtype_name(view.type), view.shape, bytes, hash);
    }
    return hash;
  }

  // MXFP4 holds the published experts without loss.
  std::string lossy_types() const override {
    std::set<std::string_view> names;
    for (const TensorView& view : views_) {
      if (dtype_info(view.type).block_elements > 1 && view.type != DType::kMXFP4) names.insert(dtype_name(view.type));
    }
    return fmt::format("{}", fmt::join(names, ", "));
  }

  void read_row(size_t tensor, int64_t row, std::span<float> out) const override {
    const TensorView& view = views_[tensor];
    dequantize_row(view.type, row_data(view, row), out.data(), static_cast<int64_t>(out.size()));
  }

  bool copy_row(size_t tensor, int64_t row, DType type, std::span<std::byte> out) const override {
    const TensorView& view = views_[tensor];
    if (view.type != type) return false;
    std::memcpy(out.data(), row_data(view, row), out.size());
    return true;
  }

  std::vector<int32_t> token_table(size_t tensor) const override {
    const TensorView& view = views_[tensor];
    return {view.i32(), view.i32() + view.elements()};
  }

 private:
  static uint64_t row_bytes_of(const TensorView& view) {
    const auto bytes = row_bytes(view.type, view.shape.back());
    CHECK(bytes.ok(), "{}", bytes.error().message);
    return bytes.value();
  }
  static const std::byte* row_data(const TensorView& view, int64_t row) {
    return view.data<std::byte>() + static_cast<uint64_t>(row) * row_bytes_of(view);
  }

  bool check_type(const ExpectedTensor& expected, const TensorInfo& info, int32_t n_expert, ProblemList& problems) {
    const bool is_table = expected.spec->use == WeightUse::kTokenTable;
    if (!info.type || (is_table ? *info.type != DType::kI32 : !is_float_type(*info.type))) {
      problems.add("tensor {}: expected {}, found {}", expected.name, is_table ? "I32" : "a float type that we know",
                   info.type ? std::string(dtype_name(*info.type)) : ggml_type_name(info.ggml_type));
      return false;
    }
    if (!is_table) return true;
    const TensorView view = file_.view(info);
    for (int64_t i = 0; i < view.elements(); ++i) {
      if (view.i32()[i] >= 0 && view.i32()[i] < n_expert) continue;
      problems.add("tensor {}: element {}: expected an expert from 0 to {}, found {}", expected.name, i, n_expert - 1,
                   view.i32()[i]);
      return false;
    }
    return true;
  }

  const GgufFile& file_;
  std::vector<ExpectedTensor> tensors_;
  std::vector<TensorView> views_;
};

}  // namespace

Result<std::unique_ptr<ModelSource>> open_gguf_source(const GgufFile& file, const GgufSourceOptions& options) {
  auto hyperparams = Hyperparams::read(file.metadata());
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), file.path());
  auto model = std::make_unique<GgufModel>(file);
  ProblemList problems;
  model->bind(hyperparams.value(), options.allow_extra, problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, file.path()));
  return std::unique_ptr<ModelSource>(std::move(model));
}

}  // namespace ds4
