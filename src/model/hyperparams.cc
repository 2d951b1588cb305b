#include "model/hyperparams.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <variant>

#include "ops/kv_view.h"

namespace ds4 {

namespace {

using IntMember = int32_t Hyperparams::*;
using FloatMember = float Hyperparams::*;
using IntsMember = std::vector<int32_t> Hyperparams::*;
using FloatsMember = std::vector<float> Hyperparams::*;

struct FieldSpec {
  std::string_view key;  // after "deepseek4."
  std::variant<IntMember, FloatMember, IntsMember, FloatsMember> member;
  double min;
  double max;
  std::optional<double> fallback;  // used when the key is absent; no value: the key is required
  std::string_view doc;
};

constexpr double kMaxInt = std::numeric_limits<int32_t>::max();
using H = Hyperparams;

// `block_count` counts the draft layer too when the file stores one; read() takes it apart.
std::span<const FieldSpec> field_table() {
  static const std::array kFields = {
      FieldSpec{"block_count", &H::n_layer, 1, 1024, {}, "layers, including stored draft layers"},
      FieldSpec{"nextn_predict_layers", &H::n_nextn_layer, 0, 1, 0.0,
                "draft layers; stored in the file when block_count counts them"},
      FieldSpec{"context_length", &H::n_ctx_train, 1, kMaxInt, {}, "trained context in tokens"},
      FieldSpec{"embedding_length", &H::n_embd, 1, 1 << 20, {}, "embedding width"},
      FieldSpec{"vocab_size", &H::n_vocab, 1, 1 << 24, {}, "tokens in the vocabulary"},
      FieldSpec{"attention.head_count", &H::n_head, 1, 4096, {}, "query heads"},
      FieldSpec{"attention.key_length", &H::head_dim, 8, 8192, {}, "width of a head; keys and values are one vector"},
      FieldSpec{"rope.dimension_count", &H::n_rot, 2, 8192, {}, "rotary tail of a head"},
      FieldSpec{"attention.q_lora_rank", &H::q_lora_rank, 1, 1 << 20, {}, "width of the query bottleneck"},
      FieldSpec{
          "attention.output_lora_rank", &H::o_lora_rank, 1, 1 << 20, {}, "width of the output bottleneck of one group"},
      FieldSpec{"attention.output_group_count", &H::n_o_group, 1, 4096, {}, "groups of the output projection"},
      FieldSpec{"attention.sliding_window", &H::window, 1, 1 << 20, {}, "raw rows a query sees, its own included"},
      FieldSpec{"attention.layer_norm_rms_epsilon", &H::rms_epsilon, 0, 1, {}, "epsilon of every RMS norm"},
      FieldSpec{"attention.compress_ratios", &H::compress_ratios, 0, 128, {}, "per layer 0, 4 or 128"},
      FieldSpec{"rope.freq_base", &H::rope_base, 1, 1e12, 10000.0, "RoPE base of layers with ratio 0"},
      FieldSpec{
          "attention.compress_rope_freq_base", &H::compress_rope_base, 1, 1e12, {}, "RoPE base of compressed layers"},
      FieldSpec{"rope.scaling.factor", &H::yarn_factor, 1e-3, 1e6, 16.0, "YaRN factor of compressed layers"},
      FieldSpec{"rope.scaling.original_context_length", &H::yarn_original_ctx, 1, kMaxInt, 65536.0,
                "YaRN original context"},
      FieldSpec{"rope.scaling.yarn_beta_fast", &H::yarn_beta_fast, 1e-6, 1e6, 32.0, "YaRN fast limit"},
      FieldSpec{"rope.scaling.yarn_beta_slow", &H::yarn_beta_slow, 1e-6, 1e6, 1.0, "YaRN slow limit"},
      FieldSpec{"attention.indexer.head_count", &H::n_index_head, 1, 4096, {}, "indexer heads"},
      FieldSpec{"attention.indexer.key_length", &H::index_head_dim, 2, 4096, {}, "width of an indexer head"},
      FieldSpec{"attention.indexer.top_k",
                &H::index_top_k,
                1,
                1 << 20,
                {},
                "compressed rows a query of a ratio-4 layer keeps"},
      FieldSpec{"expert_count", &H::n_expert, 1, 65536, {}, "routed experts"},
      FieldSpec{"expert_used_count", &H::n_expert_used, 1, 256, {}, "routed experts per token"},
      FieldSpec{"expert_shared_count", &H::n_expert_shared, 1, 16, {}, "shared experts"},
      FieldSpec{"expert_feed_forward_length", &H::expert_ff, 1, 1 << 20, {}, "hidden width of an expert"},
      FieldSpec{"expert_weights_scale", &H::expert_weights_scale, 1e-6, 1e6, {}, "factor on normalised router weights"},
      FieldSpec{"hash_layer_count", &H::n_hash_layer, 0, 1024, {}, "first layers, routed by token id"},
      FieldSpec{"swiglu_clamp_exp", &H::swiglu_clamp, 0, 1e30, {}, "per layer limit of SwiGLU in routed experts"},
      FieldSpec{"swiglu_clamp_shexp",
                &H::swiglu_clamp_shared,
                0,
                1e30,
                {},
                "the same in the shared expert; absent: as routed"},
      FieldSpec{"hyper_connection.count", &H::n_hc, 1, 16, {}, "hyper-connection streams"},
      FieldSpec{"hyper_connection.sinkhorn_iterations", &H::hc_sinkhorn_iterations, 1, 1000, {}, "Sinkhorn iterations"},
      FieldSpec{"hyper_connection.epsilon", &H::hc_epsilon, 0, 1, {}, "epsilon of the hyper-connections"},
  };
  return kFields;
}

std::string full_key(std::string_view key) { return fmt::format("deepseek4.{}", key); }

template <class T>
void check_range(const FieldSpec& field, T value, ProblemList& problems) {
  const auto number = static_cast<double>(value);
  if (number >= field.min && number <= field.max) return;
  problems.add("deepseek4.{}: expected {} to {}, found {}", field.key, field.min, field.max, value);
}

// Reads one field; leaves the member alone and adds a problem when it cannot.
class FieldReader {
 public:
  FieldReader(const Metadata& metadata, Hyperparams& target, ProblemList& problems)
      : metadata_(metadata), target_(target), problems_(problems) {}

  void read(const FieldSpec& field) {
    key_ = full_key(field.key);
    if (!metadata_.contains(key_) && field.fallback) {
      if (const auto* member = std::get_if<IntMember>(&field.member))
        target_.** member = static_cast<int32_t>(*field.fallback);
      if (const auto* member = std::get_if<FloatMember>(&field.member))
        target_.** member = static_cast<float>(*field.fallback);
      return;
    }
    if (field.key == "swiglu_clamp_shexp" && !metadata_.contains(key_)) return;  // set from swiglu_clamp_exp
    std::visit([&](auto member) { read_member(field, member); }, field.member);
  }

 private:
  template <class T>
  bool keep(Result<T> result, T& value) {
    if (result.ok())
      value = result.take_value();
    else
      problems_.add("{}", result.error().message);
    return result.ok();
  }
  void read_member(const FieldSpec& field, IntMember member) {
    int64_t value = 0;
    if (!keep(metadata_.get_int(key_), value)) return;
    check_range(field, value, problems_);
    target_.*member = static_cast<int32_t>(value);
  }
  void read_member(const FieldSpec& field, FloatMember member) {
    double value = 0;
    if (!keep(metadata_.get_float(key_), value)) return;
    check_range(field, value, problems_);
    target_.*member = static_cast<float>(value);
  }
  void read_member(const FieldSpec& field, IntsMember member) {
    std::vector<int64_t> values;
    if (!keep(metadata_.get_int_array(key_), values)) return;
    for (const int64_t value : values) check_range(field, value, problems_);
    (target_.*member).assign(values.begin(), values.end());
  }
  void read_member(const FieldSpec& field, FloatsMember member) {
    std::vector<double> values;
    if (!keep(metadata_.get_float_array(key_), values)) return;
    (target_.*member).clear();
    for (const double value : values) {
      check_range(field, value, problems_);
      (target_.*member).push_back(static_cast<float>(value));
    }
  }

  const Metadata& metadata_;
  Hyperparams& target_;
  ProblemList& problems_;
  std::string key_;
};

// Keys with one acceptable value. Absent is fine except for the architecture.
void check_fixed_keys(const Metadata& metadata, ProblemList& problems) {
  const auto architecture = metadata.get_string("general.architecture");
  if (!architecture.ok())
    problems.add("{}", architecture.error().message);
  else if (architecture.value() != "deepseek4") {
    problems.add("general.architecture: expected \"deepseek4\", found \"{}\"", architecture.value());
  }
  struct FixedInt {
    std::string_view key;
    int64_t value;
  };
  for (const auto& [key, value] : {FixedInt{"attention.head_count_kv", 1}, FixedInt{"expert_gating_func", 4},
                                   FixedInt{"expert_group_count", 0}, FixedInt{"expert_group_used_count", 0}}) {
    const std::string name = full_key(key);
    if (!metadata.contains(name)) continue;
    const auto found = metadata.get_int(name);
    if (!found.ok())
      problems.add("{}", found.error().message);
    else if (found.value() != value)
      problems.add("{}: expected {}, found {}", name, value, found.value());
  }
  const std::string norm = full_key("expert_weights_norm");
  if (metadata.contains(norm)) {
    const auto found = metadata.get_bool(norm);
    if (!found.ok())
      problems.add("{}", found.error().message);
    else if (!found.value())
      problems.add("{}: expected true, found false", norm);
  }
  const std::string scaling = full_key("rope.scaling.type");
  if (metadata.contains(scaling)) {
    const auto found = metadata.get_string(scaling);
    if (!found.ok())
      problems.add("{}", found.error().message);
    else if (found.value() != "yarn")
      problems.add("{}: expected \"yarn\", found \"{}\"", scaling, found.value());
  }
}

// Files that store the draft layer count it in block_count and give it a ratio, which is 0; in files that keep it
// elsewhere the ratio list is longer than block_count, or ends with a compressed layer.
void split_draft_layers(Hyperparams& h) {
  const bool stored =
      h.n_layer > 1 && static_cast<int32_t>(h.compress_ratios.size()) == h.n_layer && h.compress_ratios.back() == 0;
  if (!stored) h.n_nextn_layer = 0;
  h.n_layer -= h.n_nextn_layer;
}

template <class T>
void check_layer_list(std::string_view key, std::vector<T>& values, int32_t n_layer, ProblemList& problems) {
  if (static_cast<int32_t>(values.size()) < n_layer) {
    problems.add("deepseek4.{}: expected at least {} entries, found {}", key, n_layer, values.size());
  }
  values.resize(static_cast<size_t>(std::max(n_layer, 0)));
}

}  // namespace

Result<Hyperparams> Hyperparams::read(const Metadata& metadata) {
  Hyperparams h;
  ProblemList problems;
  check_fixed_keys(metadata, problems);
  FieldReader reader(metadata, h, problems);
  for (const FieldSpec& field : field_table()) reader.read(field);
  // Relations between values that are missing or out of range would only add noise.
  if (!problems.empty()) return problems.to_result(ErrorCode::kCorrupt, "model metadata").error();

  split_draft_layers(h);
  if (h.swiglu_clamp_shared.empty()) h.swiglu_clamp_shared = h.swiglu_clamp;
  const int32_t n_clamp = h.n_stored_layer();
  if (static_cast<int32_t>(h.swiglu_clamp.size()) == h.n_layer && h.n_nextn_layer == 1 && !h.swiglu_clamp.empty()) {
    h.swiglu_clamp.push_back(h.swiglu_clamp.back());
    h.swiglu_clamp_shared.push_back(h.swiglu_clamp_shared.back());
  }
  check_layer_list("attention.compress_ratios", h.compress_ratios, h.n_layer, problems);
  check_layer_list("swiglu_clamp_exp", h.swiglu_clamp, n_clamp, problems);
  check_layer_list("swiglu_clamp_shexp", h.swiglu_clamp_shared, n_clamp, problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, "model metadata"));
  TRY(h.validate("model metadata"));
  return h;
}

Result<void> Hyperparams::validate(std::string_view subject) const {
  ProblemList problems;
  for (int32_t layer = 0; layer < n_layer; ++layer) {
    const int32_t r = ratio(layer);
    if (r != 0 && r != 4 && r != 128)
      problems.add("layer {}: compression ratio: expected 0, 4 or 128, found {}", layer, r);
  }
  if (n_rot % 2 != 0 || n_rot > head_dim)
    problems.add("rotary width {} must be even and at most the head width {}", n_rot, head_dim);
  if (n_rot > index_head_dim) problems.add("rotary width {} exceeds the indexer head width {}", n_rot, index_head_dim);
  if ((index_head_dim & (index_head_dim - 1)) != 0 || index_head_dim % kFp4Group != 0) {
    problems.add("indexer head width: expected a power of two from {}, found {}", kFp4Group, index_head_dim);
  }
  if (n_head % n_o_group != 0) problems.add("{} heads do not divide into {} output groups", n_head, n_o_group);
  if (n_expert_used > n_expert) problems.add("{} experts used of {}", n_expert_used, n_expert);
  if (n_hash_layer > n_layer) problems.add("{} hash-routed layers of {}", n_hash_layer, n_layer);
  if (int64_t{n_hc} * n_embd > (int64_t{1} << 24)) problems.add("{} streams of width {} are too wide", n_hc, n_embd);
  return problems.to_result(ErrorCode::kCorrupt, subject);
}

void Hyperparams::write(Metadata& metadata) const {
  metadata.set_string("general.architecture", "deepseek4");
  for (const FieldSpec& field : field_table()) {
    const std::string key = full_key(field.key);
    if (const auto* member = std::get_if<IntMember>(&field.member))
      metadata.set_u32(key, static_cast<uint32_t>(this->**member));
    if (const auto* member = std::get_if<FloatMember>(&field.member)) metadata.set_f32(key, this->**member);
    if (const auto* member = std::get_if<IntsMember>(&field.member)) {
      std::vector<int32_t> values = this->**member;
      values.resize(static_cast<size_t>(n_stored_layer()), 0);  // the draft layer has no compressor
      metadata.set_i32_array(key, values);
    }
    if (const auto* member = std::get_if<FloatsMember>(&field.member)) metadata.set_f32_array(key, this->**member);
  }
  metadata.set_u32(full_key("block_count"), static_cast<uint32_t>(n_stored_layer()));
  metadata.set_u32(full_key("attention.head_count_kv"), 1);
  metadata.set_u32(full_key("attention.value_length"), static_cast<uint32_t>(head_dim));
  metadata.set_u32(full_key("expert_gating_func"), 4);
  metadata.set_bool(full_key("expert_weights_norm"), true);
  metadata.set_string(full_key("rope.scaling.type"), "yarn");
}

std::string hyperparams_markdown() {
  std::string text =
      "# Hyper-parameters\n\nGenerated from the field table of `src/model/hyperparams.cc`. Keys start with "
      "`deepseek4.`.\n\n"
      "| key | type | accepted | default | meaning |\n|---|---|---|---|---|\n";
  constexpr std::array<std::string_view, 4> kTypes = {"integer", "number", "integers", "numbers"};
  for (const FieldSpec& field : field_table()) {
    text += fmt::format("| {} | {} | {} to {} | {} | {} |\n", field.key, kTypes[field.member.index()], field.min,
                        field.max, field.fallback ? fmt::format("{}", *field.fallback) : "required", field.doc);
  }
  return text;
}

}  // namespace ds4
