#include "model/synthetic_weights.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <tuple>

#include "backends/host_backend.h"
#include "base/rng.h"
#include "gguf/format.h"
#include "gguf/quantize.h"
#include "gguf/weight_source.h"
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

// Pools of quantised values by type and variance, made when they are first asked for. They keep their addresses.
class Pools {
 public:
  explicit Pools(const Hyperparams& hyperparams) : hyperparams_(hyperparams) {}

  // Small tensors and tables are whole synth-v1 tensors.
  static bool is_pooled(const ExpectedTensor& tensor, DType type) {
    return type != DType::kI32 && tensor.shape.elements() > kPoolElements;
  }

  Result<PooledRuns> runs(const ExpectedTensor& tensor, DType type) {
    // Tensors of one type and variance share a pool; only the embedding's values do not depend on the row.
    std::vector<std::byte>& pool =
        pools_[std::tuple(type, tensor.shape.back(), tensor.spec->use == WeightUse::kEmbedding)];
    if (pool.empty()) {
      pool.resize(TRY(row_bytes(type, kPoolElements)));
      TRY(quantise(tensor, type, kPoolElements, pool));
    }
    const DTypeInfo& info = dtype_info(type);
    return PooledRuns{.pool = pool,
                      .seed = fnv1a64(tensor.name),
                      .run_bytes = uint64_t{kRunElements} / info.block_elements * info.block_bytes,
                      .block_bytes = info.block_bytes};
  }

  Result<void> fill_small(const ExpectedTensor& tensor, DType type, std::span<std::byte> out) const {
    if (type != DType::kI32) return quantise(tensor, type, tensor.shape.elements(), out);
    std::vector<int32_t> experts(static_cast<size_t>(tensor.shape.elements()));
    synthetic_experts(tensor.name, hyperparams_.n_expert, hyperparams_.n_expert_used, 0, experts);
    std::memcpy(out.data(), experts.data(), out.size());
    return {};
  }

 private:
  Result<void> quantise(const ExpectedTensor& tensor, DType type, int64_t n_elements, std::span<std::byte> out) const {
    std::vector<float> values(static_cast<size_t>(n_elements));
    synthetic_values(tensor.name, tensor.shape.back(), 0, values);
    CHECK(TRY(row_bytes(type, n_elements)) == out.size(), "{} bytes for {}", out.size(), tensor.name);
    quantize_row(type, values.data(), out.data(), n_elements);
    return {};
  }

  Hyperparams hyperparams_;
  std::map<std::tuple<DType, int64_t, bool>, std::vector<std::byte>> pools_;
};

class PoolGenerator final : public WeightGenerator {
 public:
  PoolGenerator(std::unique_ptr<Pools> pools, std::map<std::string, PooledRuns, std::less<>> runs)
      : pools_(std::move(pools)), runs_(std::move(runs)) {}

  std::optional<PooledRuns> runs(const TensorInfo& tensor) const override {
    const auto found = runs_.find(tensor.name);
    return found == runs_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  std::unique_ptr<Pools> pools_;
  std::map<std::string, PooledRuns, std::less<>> runs_;
};

// A model file's directory, before there are bytes.
struct FilePlan {
  Metadata metadata;
  std::vector<ExpectedTensor> expected;
  std::vector<TensorInfo> tensors;
  uint64_t size_bytes = 0;
};

Result<FilePlan> plan_file(const Hyperparams& hyperparams, const SyntheticFile& description) {
  FilePlan plan;
  hyperparams.write(plan.metadata);
  for (const MetadataEntry& entry : description.metadata.entries()) plan.metadata.set_value(entry.key, entry.value);
  const uint64_t alignment = TRY(gguf_alignment(plan.metadata));
  plan.expected = expected_tensors(hyperparams);
  CHECK(description.types.size() == plan.expected.size(), "{} types for {} tensors", description.types.size(),
        plan.expected.size());
  for (size_t i = 0; i < plan.expected.size(); ++i) {
    const ExpectedTensor& expected = plan.expected[i];
    const DType type = expected.spec->use == WeightUse::kTokenTable ? DType::kI32 : description.types[i];
    plan.tensors.push_back({.name = expected.name,
                            .ggml_type = dtype_to_ggml(type).value(),
                            .type = type,
                            .shape = expected.shape,
                            .offset_bytes = plan.size_bytes,
                            .size_bytes = TRY(tensor_bytes(type, expected.shape))});
    plan.size_bytes = (plan.size_bytes + plan.tensors.back().size_bytes + alignment - 1) / alignment * alignment;
  }
  return plan;
}

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
  FilePlan plan = TRY(plan_file(hyperparams, description));
  std::unique_ptr<Buffer> memory = TRY(backend.allocate(plan.size_bytes));
  Pools pools(hyperparams);
  for (size_t i = 0; i < plan.expected.size(); ++i) {
    const std::span<std::byte> out = bytes_of(*memory, plan.tensors[i]);
    if (!Pools::is_pooled(plan.expected[i], *plan.tensors[i].type)) {
      TRY(pools.fill_small(plan.expected[i], *plan.tensors[i].type, out));
      continue;
    }
    const PooledRuns runs = TRY(pools.runs(plan.expected[i], *plan.tensors[i].type));
    const auto n_runs = static_cast<int64_t>((out.size() + runs.run_bytes - 1) / runs.run_bytes);
    threads.parallel_for(n_runs, kPieceRuns, [&](int64_t first, int64_t last) {
      const uint64_t begin = static_cast<uint64_t>(first) * runs.run_bytes;
      const uint64_t end = std::min<uint64_t>(static_cast<uint64_t>(last) * runs.run_bytes, out.size());
      runs.fill(begin, out.subspan(begin, end - begin));
    });
  }
  return std::make_unique<GgufFile>("synthetic model", std::move(memory), std::move(plan.metadata),
                                    std::move(plan.tensors));
}

Result<std::unique_ptr<GgufFile>> make_generated_file(const Hyperparams& hyperparams,
                                                      const SyntheticFile& description) {
  FilePlan plan = TRY(plan_file(hyperparams, description));
  std::unique_ptr<Buffer> memory = TRY(allocate_host_memory(plan.size_bytes));
  auto pools = std::make_unique<Pools>(hyperparams);
  std::map<std::string, PooledRuns, std::less<>> runs;
  for (size_t i = 0; i < plan.expected.size(); ++i) {
    const TensorInfo& tensor = plan.tensors[i];
    if (!Pools::is_pooled(plan.expected[i], *tensor.type)) {
      TRY(pools->fill_small(plan.expected[i], *tensor.type, bytes_of(*memory, tensor)));
      continue;
    }
    const PooledRuns pooled = TRY(pools->runs(plan.expected[i], *tensor.type));
    if (plan.expected[i].spec->use == WeightUse::kVector) {
      pooled.fill(0, bytes_of(*memory, tensor));  // it may have to be widened
    } else {
      runs.emplace(tensor.name, pooled);
    }
  }
  auto file = std::make_unique<GgufFile>("synthetic model", std::move(memory), std::move(plan.metadata),
                                         std::move(plan.tensors));
  file->set_generator(std::make_unique<PoolGenerator>(std::move(pools), std::move(runs)));
  return file;
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
    if (const auto runs = file.generator() == nullptr ? std::nullopt : file.generator()->runs(tensor)) {
      std::vector<std::byte> bytes(tensor.size_bytes);
      runs->fill(0, bytes);
      TRY(writer.write_tensor_data(bytes));
      continue;
    }
    TRY(writer.write_tensor_data({view.data<std::byte>(), tensor.size_bytes}));
  }
  return writer.finish();
}

}  // namespace ds4
