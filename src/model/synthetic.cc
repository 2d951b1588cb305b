#include "model/synthetic.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/rng.h"
#include "gguf/quantize.h"
#include "gguf/writer.h"
#include "model/weight_table.h"

namespace ds4 {

namespace {

// Values are made and written in pieces of about this many elements.
constexpr int64_t kPieceElements = 1 << 20;

uint64_t output_of(uint64_t seed, int64_t index) {
  return splitmix64_mix(seed + (static_cast<uint64_t>(index) + 1) * kGoldenGamma);
}

// value = offset + factor * u
struct Affine {
  double offset;
  double factor;
};

Affine affine_of(std::string_view name, int64_t row_elements) {
  if (name.ends_with("norm.weight") || name.ends_with("_scale.weight")) return {1.0, 0.25};
  if (name.ends_with("_base.weight") || name.ends_with("_ape.weight")) return {0.0, 0.5};
  if (name.ends_with("attn_sinks.weight") || name == "token_embd.weight") return {0.0, 1.0};
  if (name.ends_with("exp_probs_b.bias")) return {0.0, 0.1};
  return {0.0, std::sqrt(3.0 / static_cast<double>(row_elements))};
}

Result<void> write_experts(const ExpectedTensor& tensor, const Hyperparams& hyperparams, GgufWriter& writer) {
  std::vector<int32_t> experts(static_cast<size_t>(tensor.shape.elements()));
  synthetic_experts(tensor.name, hyperparams.n_expert, hyperparams.n_expert_used, 0, experts);
  return writer.write_tensor_data(std::as_bytes(std::span(experts)));
}

Result<void> write_values(const ExpectedTensor& tensor, DType type, GgufWriter& writer) {
  const int64_t row_elements = tensor.shape.back();
  const int64_t n_elements = tensor.shape.elements();
  const int64_t piece_elements = std::max<int64_t>(kPieceElements / row_elements, 1) * row_elements;
  std::vector<float> values;
  std::vector<std::byte> bytes;
  for (int64_t first = 0; first < n_elements; first += piece_elements) {
    values.resize(static_cast<size_t>(std::min(piece_elements, n_elements - first)));
    synthetic_values(tensor.name, row_elements, first, values);
    bytes.resize(TRY(row_bytes(type, static_cast<int64_t>(values.size()))));
    quantize_row(type, values.data(), bytes.data(), static_cast<int64_t>(values.size()));
    TRY(writer.write_tensor_data(bytes));
  }
  return {};
}

Result<void> check_hash_routing(const Hyperparams& hyperparams) {
  if (hyperparams.n_hash_layer == 0 || std::has_single_bit(static_cast<uint32_t>(hyperparams.n_expert))) return {};
  return make_error(ErrorCode::kUnsupported,
                    "synthetic model: hash-routed layers need a power of two of experts, found {}",
                    hyperparams.n_expert);
}

}  // namespace

Result<Hyperparams> synthetic_hyperparams(const SyntheticShape& shape) {
  Hyperparams h{
      .n_layer = static_cast<int32_t>(shape.ratios.size()),
      .n_nextn_layer = shape.mtp ? 1 : 0,
      .n_ctx_train = 1 << 20,
      .n_embd = shape.hidden,
      .n_vocab = shape.vocab,
      .n_head = shape.heads,
      .head_dim = shape.head_dim,
      .n_rot = shape.rope,
      .q_lora_rank = shape.q_lora,
      .o_lora_rank = shape.o_lora,
      .n_o_group = shape.o_groups,
      .window = shape.window,
      .rms_epsilon = 1e-6f,
      .compress_ratios = shape.ratios,
      .rope_base = 10000.0f,
      .compress_rope_base = 160000.0f,
      .yarn_factor = 16.0f,
      .yarn_original_ctx = 65536,
      .yarn_beta_fast = 32.0f,
      .yarn_beta_slow = 1.0f,
      .n_index_head = shape.idx_heads,
      .index_head_dim = shape.idx_dim,
      .index_top_k = shape.topk,
      .n_expert = shape.experts,
      .n_expert_used = shape.used,
      .n_expert_shared = 1,
      .expert_ff = shape.ff,
      .expert_weights_scale = 1.5f,
      .n_hash_layer = shape.hash,
      .swiglu_clamp = {},
      .swiglu_clamp_shared = {},
      .n_hc = 4,
      .hc_sinkhorn_iterations = 20,
      .hc_epsilon = 1e-6f,
  };
  h.swiglu_clamp.assign(static_cast<size_t>(h.n_stored_layer()), 10.0f);
  h.swiglu_clamp_shared = h.swiglu_clamp;
  // Through metadata and back: the ranges of single values are checked where files are read.
  Metadata metadata;
  h.write(metadata);
  h = TRY(Hyperparams::read(metadata));
  TRY(check_hash_routing(h));
  return h;
}

void synthetic_values(std::string_view name, int64_t row_elements, int64_t first, std::span<float> out) {
  const uint64_t seed = fnv1a64(name);
  const Affine affine = affine_of(name, row_elements);
  for (size_t i = 0; i < out.size(); ++i) {
    const double u = static_cast<double>(output_of(seed, first + static_cast<int64_t>(i)) >> 40) * 0x1p-23 - 1.0;
    out[i] = static_cast<float>(affine.offset + affine.factor * u);
  }
}

void synthetic_experts(std::string_view name, int32_t n_expert, int32_t n_used, int64_t first_token,
                       std::span<int32_t> out) {
  const auto n_experts = static_cast<uint32_t>(n_expert);
  CHECK(std::has_single_bit(n_experts), "{} experts", n_expert);
  CHECK(out.size() % static_cast<size_t>(n_used) == 0, "{} elements in rows of {}", out.size(), n_used);
  const uint64_t seed = fnv1a64(name);
  for (size_t i = 0; i < out.size(); i += static_cast<size_t>(n_used)) {
    const uint64_t z = output_of(seed, first_token + static_cast<int64_t>(i) / n_used);
    // An odd step visits all experts of a power of two before it repeats one.
    const uint64_t step = ((z >> 32) % n_experts) | 1;
    for (size_t slot = 0; slot < static_cast<size_t>(n_used); ++slot) {
      out[i + slot] = static_cast<int32_t>((z % n_experts + slot * step) % n_experts);
    }
  }
}

std::vector<int32_t> synthetic_tokens(std::string_view configuration, int32_t n_tokens, int32_t n_vocab) {
  const uint64_t seed = fnv1a64(fmt::format("tokens.{}", configuration));
  std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(output_of(seed, static_cast<int64_t>(i)) % static_cast<uint64_t>(n_vocab));
  }
  return tokens;
}

Result<void> write_synthetic_model(const Hyperparams& hyperparams, const SyntheticFile& file, const std::string& path) {
  TRY(check_hash_routing(hyperparams));
  GgufWriter writer = TRY(GgufWriter::create(path));
  hyperparams.write(writer.metadata());
  for (const MetadataEntry& entry : file.metadata.entries()) writer.metadata().set_value(entry.key, entry.value);

  const std::vector<ExpectedTensor> tensors = expected_tensors(hyperparams);
  CHECK(file.types.empty() || file.types.size() == tensors.size(), "{} types for {} tensors", file.types.size(),
        tensors.size());
  std::vector<DType> types;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bool is_table = tensors[i].spec->use == WeightUse::kTokenTable;
    types.push_back(is_table ? DType::kI32 : file.types.empty() ? DType::kF32 : file.types[i]);
    TRY(writer.add_tensor(tensors[i].name, types[i], tensors[i].shape));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    TRY(types[i] == DType::kI32 ? write_experts(tensors[i], hyperparams, writer)
                                : write_values(tensors[i], types[i], writer));
  }
  return writer.finish();
}

}  // namespace ds4
