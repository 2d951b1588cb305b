#include "model/synthetic_weights.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <tuple>

#include "base/rng.h"
#include "gguf/format.h"
#include "gguf/quantize.h"
#include "gguf/writer.h"
#include "model/weight_table.h"

namespace ds4 {

namespace {

constexpr int64_t kPoolElements = 1 << 17;
// A run is long enough to be copied fast and shorter than a row of the large matrices.
constexpr int64_t kRunElements = 1024;
constexpr int64_t kPieceRuns = 256;  // runs that one thread fills at a time

constexpr int32_t kFlashLayers = 43;
constexpr int32_t kMiniLayers = 8;

SyntheticShape flash_shape() {
  return {.hidden = 4096,
          .heads = 64,
          .head_dim = 512,
          .rope = 64,
          .q_lora = 1024,
          .o_groups = 8,
          .o_lora = 1024,
          .experts = 256,
          .used = 6,
          .ff = 2048,
          .idx_heads = 64,
          .idx_dim = 128,
          .topk = 512,
          .window = 128,
          .vocab = 129280};
}

SyntheticShape mini_shape() {
  return {.hidden = 256,
          .heads = 4,
          .head_dim = 512,
          .rope = 64,
          .q_lora = 128,
          .o_groups = 2,
          .o_lora = 128,
          .experts = 16,
          .used = 6,
          .ff = 256,
          .idx_heads = 8,
          .idx_dim = 128,
          .topk = 64,
          .window = 128,
          .vocab = 8192};
}

// Both models begin with two layers of sliding window only, then alternate.
int32_t layer_ratio(int32_t layer) { return layer < 2 ? 0 : layer % 2 == 0 ? 4 : 128; }

std::span<std::byte> bytes_of(const Buffer& memory, const TensorInfo& tensor) {
  return {memory.host_data() + tensor.offset_bytes, tensor.size_bytes};
}

class Filler {
 public:
  Filler(const Hyperparams& hyperparams, ThreadPool& threads) : hyperparams_(hyperparams), threads_(threads) {}

  Result<void> fill(const ExpectedTensor& tensor, DType type, std::span<std::byte> out) {
    if (type == DType::kI32) {
      fill_table(tensor, out);
    } else if (tensor.shape.elements() <= kPoolElements) {
      TRY(quantise(tensor, type, tensor.shape.elements(), out));
    } else {
      fill_matrix(tensor.name, type, *TRY(pool(tensor, type)), out);
    }
    return {};
  }

 private:
  using Bytes = std::vector<std::byte>;

  void fill_table(const ExpectedTensor& tensor, std::span<std::byte> out) const {
    std::vector<int32_t> experts(static_cast<size_t>(tensor.shape.elements()));
    synthetic_experts(tensor.name, hyperparams_.n_expert, hyperparams_.n_expert_used, 0, experts);
    std::memcpy(out.data(), experts.data(), out.size());
  }

  Result<void> quantise(const ExpectedTensor& tensor, DType type, int64_t n_elements, std::span<std::byte> out) const {
    std::vector<float> values(static_cast<size_t>(n_elements));
    synthetic_values(tensor.name, tensor.shape.back(), 0, values);
    CHECK(TRY(row_bytes(type, n_elements)) == out.size(), "{} bytes for {}", out.size(), tensor.name);
    quantize_row(type, values.data(), out.data(), n_elements);
    return {};
  }

  // Tensors of one type and variance share a pool; only the embedding's values do not depend on the row.
  Result<const Bytes*> pool(const ExpectedTensor& tensor, DType type) {
    const auto key = std::tuple(type, tensor.shape.back(), tensor.spec->use == WeightUse::kEmbedding);
    Bytes& bytes = pools_[key];
    if (bytes.empty()) {
      bytes.resize(TRY(row_bytes(type, kPoolElements)));
      TRY(quantise(tensor, type, kPoolElements, bytes));
    }
    return static_cast<const Bytes*>(&bytes);
  }

  void fill_matrix(std::string_view name, DType type, const Bytes& pool, std::span<std::byte> out) {
    const DTypeInfo& info = dtype_info(type);
    const size_t run_bytes = static_cast<size_t>(kRunElements / info.block_elements) * info.block_bytes;
    const uint64_t n_starts = (pool.size() - run_bytes) / info.block_bytes + 1;
    const uint64_t seed = fnv1a64(name);
    const auto n_runs = static_cast<int64_t>((out.size() + run_bytes - 1) / run_bytes);
    threads_.parallel_for(n_runs, kPieceRuns, [&](int64_t first, int64_t last) {
      for (auto run = static_cast<uint64_t>(first); run < static_cast<uint64_t>(last); ++run) {
        const uint64_t start = splitmix64_mix(seed + run * kGoldenGamma) % n_starts * info.block_bytes;
        const size_t offset = run * run_bytes;
        std::memcpy(out.data() + offset, pool.data() + start, std::min(run_bytes, out.size() - offset));
      }
    });
  }

  const Hyperparams& hyperparams_;
  ThreadPool& threads_;
  std::map<std::tuple<DType, int64_t, bool>, Bytes> pools_;
};

}  // namespace

Result<SyntheticShape> named_synthetic_shape(std::string_view name) {
  const std::string_view base = name.substr(0, name.find(':'));
  SyntheticShape shape = base == "flash" ? flash_shape() : mini_shape();
  const int32_t most = base == "flash" ? kFlashLayers : kMiniLayers;
  int32_t n_layers = most;
  bool well_formed = base == "flash" || base == "mini";
  if (base.size() < name.size()) {
    const char* end = name.data() + name.size();
    const auto [stop, failed] = std::from_chars(name.data() + base.size() + 1, end, n_layers);
    well_formed = well_formed && failed == std::errc() && stop == end && n_layers >= 1 && n_layers <= most;
  }
  if (!well_formed) {
    return make_error(ErrorCode::kInvalidArgument,
                      "shape '{}': expected flash, flash:N with N from 1 to {}, mini or mini:N with N from 1 to {}",
                      name, kFlashLayers, kMiniLayers);
  }
  for (int32_t layer = 0; layer < n_layers; ++layer) shape.ratios.push_back(layer_ratio(layer));
  shape.hash = std::min(3, n_layers);
  return shape;
}

Result<std::unique_ptr<GgufFile>> make_synthetic_file(const Hyperparams& hyperparams, const SyntheticFile& description,
                                                      Backend& backend, ThreadPool& threads) {
  Metadata metadata;
  hyperparams.write(metadata);
  for (const MetadataEntry& entry : description.metadata.entries()) metadata.set_value(entry.key, entry.value);
  const uint64_t alignment = TRY(gguf_alignment(metadata));

  const std::vector<ExpectedTensor> expected = expected_tensors(hyperparams);
  CHECK(description.types.size() == expected.size(), "{} types for {} tensors", description.types.size(),
        expected.size());
  std::vector<TensorInfo> tensors;
  uint64_t end_bytes = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const DType type = expected[i].spec->use == WeightUse::kTokenTable ? DType::kI32 : description.types[i];
    tensors.push_back({.name = expected[i].name,
                       .ggml_type = dtype_to_ggml(type).value(),
                       .type = type,
                       .shape = expected[i].shape,
                       .offset_bytes = end_bytes,
                       .size_bytes = TRY(tensor_bytes(type, expected[i].shape))});
    end_bytes = (end_bytes + tensors.back().size_bytes + alignment - 1) / alignment * alignment;
  }

  std::unique_ptr<Buffer> memory = TRY(backend.allocate(end_bytes));
  Filler filler(hyperparams, threads);
  for (size_t i = 0; i < expected.size(); ++i) {
    TRY(filler.fill(expected[i], *tensors[i].type, bytes_of(*memory, tensors[i])));
  }
  return std::make_unique<GgufFile>("synthetic model", std::move(memory), std::move(metadata), std::move(tensors));
}

Result<void> save_gguf_file(const GgufFile& file, const std::string& path) {
  GgufWriter writer = TRY(GgufWriter::create(path));
  for (const MetadataEntry& entry : file.metadata().entries()) writer.metadata().set_value(entry.key, entry.value);
  for (const TensorInfo& tensor : file.tensors()) {
    if (!tensor.type) {
      return make_error(ErrorCode::kUnsupported, "{}: tensor {} has the type {}, which cannot be written", file.path(),
                        tensor.name, ggml_type_name(tensor.ggml_type));
    }
    TRY(writer.add_tensor(tensor.name, *tensor.type, tensor.shape));
  }
  for (const TensorInfo& tensor : file.tensors()) {
    const TensorView view = file.view(tensor);
    TRY(writer.write_tensor_data({view.data<std::byte>(), tensor.size_bytes}));
  }
  return writer.finish();
}

}  // namespace ds4
