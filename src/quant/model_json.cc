#include "quant/model_json.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ds4 {

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
constexpr size_t kMaxLayers = 1024;

// Typed members of one JSON object. A look-up that fails adds a problem and gives a neutral value.
class ObjectReader {
 public:
  ObjectReader(const Json& object, std::string prefix, ProblemList& problems)
      : object_(object), prefix_(std::move(prefix)), problems_(problems) {}

  int32_t integer(const char* key) {
    const Json* value = find(key);
    return value == nullptr ? 0 : to_integer(*value, key);
  }

  float number(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return 0;
    if (!value->is_number()) {
      problems_.add("{}{}: expected a number, found {}", prefix_, key, value->type_name());
      return 0;
    }
    return value->get<float>();
  }

  std::vector<int32_t> integers(const char* key) {
    const Json* value = find(key);
    if (value == nullptr) return {};
    if (!value->is_array() || value->size() > kMaxLayers) {
      problems_.add("{}{}: expected an array of at most {} integers, found {}", prefix_, key, kMaxLayers,
                    value->type_name());
      return {};
    }
    std::vector<int32_t> numbers;
    for (const Json& element : *value) numbers.push_back(to_integer(element, key));
    return numbers;
  }

  ObjectReader object(const char* key) {
    static const Json kEmpty = Json::object();
    const Json* value = find(key);
    if (value != nullptr && value->is_object()) return {*value, prefix_ + key + ".", problems_};
    if (value != nullptr) problems_.add("{}{}: expected an object, found {}", prefix_, key, value->type_name());
    return {kEmpty, prefix_ + key + ".", problems_};
  }

  // For settings that choose between algorithms of which we have one. Absent is fine.
  void expect(const char* key, const Json& wanted) {
    const auto found = object_.find(key);
    if (found == object_.end() || *found == wanted) return;
    const bool is_scalar = found->is_primitive();
    problems_.add("{}{}: expected {}, found {}", prefix_, key, wanted.dump(),
                  is_scalar ? found->dump() : found->type_name());
  }

  bool contains(const char* key) const { return object_.contains(key); }

 private:
  const Json* find(const char* key) {
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    problems_.add("{}{}: missing", prefix_, key);
    return nullptr;
  }

  int32_t to_integer(const Json& value, const char* key) {
    if (value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(kMaxInt)) {
      return value.get<int32_t>();
    }
    problems_.add("{}{}: expected an integer from 0 to {}, found {}", prefix_, key, kMaxInt,
                  value.is_number() ? value.dump() : value.type_name());
    return 0;
  }

  const Json& object_;
  std::string prefix_;
  ProblemList& problems_;
};

Result<Json> parse_object(std::string_view text, std::string_view subject) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return make_error(ErrorCode::kCorrupt, "{}: not valid JSON", subject);
  if (!json.is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: expected a JSON object, found {}", subject, json.type_name());
  }
  return json;
}

// Through metadata and back: the ranges of single values are known where files are read.
Result<Hyperparams> checked(const Hyperparams& hyperparams, std::string_view subject) {
  Metadata metadata;
  hyperparams.write(metadata);
  auto result = Hyperparams::read(metadata);
  if (!result.ok()) return with_context(result.take_error(), subject);
  return result;
}

void read_rope_scaling(ObjectReader scaling, Hyperparams& h) {
  scaling.expect(scaling.contains("rope_type") ? "rope_type" : "type", "yarn");
  h.yarn_factor = scaling.number("factor");
  h.yarn_original_ctx = scaling.integer("original_max_position_embeddings");
  h.yarn_beta_fast = scaling.number("beta_fast");
  h.yarn_beta_slow = scaling.number("beta_slow");
}

void read_experts(ObjectReader& config, Hyperparams& h) {
  h.n_expert = config.integer("n_routed_experts");
  h.n_expert_used = config.integer("num_experts_per_tok");
  h.n_expert_shared = config.integer("n_shared_experts");
  h.expert_ff = config.integer("moe_intermediate_size");
  h.expert_weights_scale = config.number("routed_scaling_factor");
  h.n_hash_layer = config.integer("num_hash_layers");
  h.swiglu_clamp.assign(static_cast<size_t>(h.n_stored_layer()), config.number("swiglu_limit"));
  h.swiglu_clamp_shared = h.swiglu_clamp;
  config.expect("scoring_func", "sqrtsoftplus");
  config.expect("topk_method", "noaux_tc");
  config.expect("norm_topk_prob", true);
  config.expect("hidden_act", "silu");
}

void read_attention(ObjectReader& config, Hyperparams& h) {
  h.n_head = config.integer("num_attention_heads");
  h.head_dim = config.integer("head_dim");
  h.n_rot = config.integer("qk_rope_head_dim");
  h.q_lora_rank = config.integer("q_lora_rank");
  h.o_lora_rank = config.integer("o_lora_rank");
  h.n_o_group = config.integer("o_groups");
  h.window = config.integer("sliding_window");
  h.rope_base = config.number("rope_theta");
  h.compress_rope_base = config.number("compress_rope_theta");
  read_rope_scaling(config.object("rope_scaling"), h);
  h.n_index_head = config.integer("index_n_heads");
  h.index_head_dim = config.integer("index_head_dim");
  h.index_top_k = config.integer("index_topk");
  config.expect("num_key_value_heads", 1);
  config.expect("attention_bias", false);
}

}  // namespace

Result<SyntheticShape> parse_synthetic_shape(std::string_view json, std::string_view subject) {
  const Json root = TRY(parse_object(json, subject));
  ProblemList problems;
  ObjectReader reader(root, "", problems);
  const SyntheticShape shape{
      .hidden = reader.integer("hidden"),
      .heads = reader.integer("heads"),
      .head_dim = reader.integer("head_dim"),
      .rope = reader.integer("rope"),
      .q_lora = reader.integer("q_lora"),
      .o_groups = reader.integer("o_groups"),
      .o_lora = reader.integer("o_lora"),
      .experts = reader.integer("experts"),
      .used = reader.integer("used"),
      .ff = reader.integer("ff"),
      .idx_heads = reader.integer("idx_heads"),
      .idx_dim = reader.integer("idx_dim"),
      .topk = reader.integer("topk"),
      .window = reader.integer("window"),
      .vocab = reader.integer("vocab"),
      .hash = reader.integer("hash"),
      .ratios = reader.integers("ratios"),
  };
  TRY(problems.to_result(ErrorCode::kCorrupt, subject));
  return shape;
}

Result<Hyperparams> parse_checkpoint_config(std::string_view json, std::string_view subject) {
  const Json root = TRY(parse_object(json, subject));
  ProblemList problems;
  ObjectReader config(root, "", problems);
  config.expect("model_type", "deepseek_v4");
  config.expect("tie_word_embeddings", false);

  Hyperparams h;
  h.n_layer = config.integer("num_hidden_layers");
  h.n_nextn_layer = config.contains("num_nextn_predict_layers") ? config.integer("num_nextn_predict_layers") : 0;
  if (h.n_layer > static_cast<int32_t>(kMaxLayers) || h.n_nextn_layer > 1) {
    problems.add("expected at most {} layers and 1 draft layer, found {} and {}", kMaxLayers, h.n_layer,
                 h.n_nextn_layer);
    h.n_layer = h.n_nextn_layer = 0;
  }
  h.n_ctx_train = config.integer("max_position_embeddings");
  h.n_embd = config.integer("hidden_size");
  h.n_vocab = config.integer("vocab_size");
  h.rms_epsilon = config.number("rms_norm_eps");
  h.compress_ratios = config.integers("compress_ratios");
  if (h.compress_ratios.size() < static_cast<size_t>(h.n_layer)) {
    problems.add("compress_ratios: expected at least {} entries, found {}", h.n_layer, h.compress_ratios.size());
  }
  h.compress_ratios.resize(static_cast<size_t>(h.n_layer));  // the draft layer has its own entry
  read_attention(config, h);
  read_experts(config, h);
  h.n_hc = config.integer("hc_mult");
  h.hc_sinkhorn_iterations = config.integer("hc_sinkhorn_iters");
  h.hc_epsilon = config.number("hc_eps");
  TRY(problems.to_result(ErrorCode::kCorrupt, subject));
  return checked(h, subject);
}

}  // namespace ds4
