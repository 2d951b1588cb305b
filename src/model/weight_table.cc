// size-check: data

#include "model/weight_table.h"

#include <array>

#include "model/weights.h"

namespace ds4 {

namespace {

using L = LayerWeights;
using M = ModelWeights;
using enum Dim;
using enum LayerSet;
using enum WeightUse;

}  // namespace

std::span<const WeightSpec> weight_table() {
  // clang-format off
  static const std::array kWeights = {
      // name, checkpoint name, member, shape, layers, use, required, meaning
      WeightSpec{"token_embd.weight", "embed.weight", &M::token_embd, {kVocab, kEmbd}, LayerSet::kModel, kEmbedding, true, "token embeddings"},
      WeightSpec{"output_norm.weight", "norm.weight", &M::output_norm, {kEmbd}, LayerSet::kModel, kVector, true, "gain before the vocabulary head"},
      WeightSpec{"output.weight", "head.weight", &M::output, {kVocab, kEmbd}, LayerSet::kModel, kMatmul, true, "vocabulary head"},
      WeightSpec{"output_hc_fn.weight", "hc_head_fn", &M::output_hc_fn, {kHc, kHcEmbd}, LayerSet::kModel, kMatmul, true, "stream weights of the head"},
      WeightSpec{"output_hc_base.weight", "hc_head_base", &M::output_hc_base, {kHc}, LayerSet::kModel, kVector, true, "their offsets"},
      WeightSpec{"output_hc_scale.weight", "hc_head_scale", &M::output_hc_scale, {kOne}, LayerSet::kModel, kVector, true, "their scale"},
      WeightSpec{"hc_attn_fn.weight", "hc_attn_fn", &L::hc_attn_fn, {kHcMix, kHcEmbd}, kAll, kMatmul, true, "stream mixing before attention: pre, post, comb rows"},
      WeightSpec{"hc_attn_base.weight", "hc_attn_base", &L::hc_attn_base, {kHcMix}, kAll, kVector, true, "its offsets"},
      WeightSpec{"hc_attn_scale.weight", "hc_attn_scale", &L::hc_attn_scale, {kThree}, kAll, kVector, true, "its scales: pre, post, comb"},
      WeightSpec{"attn_norm.weight", "attn_norm.weight", &L::attn_norm, {kEmbd}, kAll, kVector, true, "gain before attention"},
      WeightSpec{"attn_q_a.weight", "attn.wq_a.weight", &L::attn_q_a, {kQLora, kEmbd}, kAll, kMatmul, true, "query bottleneck, down"},
      WeightSpec{"attn_q_a_norm.weight", "attn.q_norm.weight", &L::attn_q_a_norm, {kQLora}, kAll, kVector, true, "gain of the query bottleneck"},
      WeightSpec{"attn_q_b.weight", "attn.wq_b.weight", &L::attn_q_b, {kHeads, kQLora}, kAll, kMatmul, true, "query bottleneck, up; head-major"},
      WeightSpec{"attn_kv.weight", "attn.wkv.weight", &L::attn_kv, {kHeadDim, kEmbd}, kAll, kMatmul, true, "the one key/value vector"},
      WeightSpec{"attn_kv_a_norm.weight", "attn.kv_norm.weight", &L::attn_kv_a_norm, {kHeadDim}, kAll, kVector, true, "its gain"},
      WeightSpec{"attn_sinks.weight", "attn.attn_sink", &L::attn_sinks, {kHead}, kAll, kVector, true, "sink logit per head"},
      WeightSpec{"attn_output_a.weight", "attn.wo_a.weight", &L::attn_output_a, {kOLora, kOGroupIn}, kAll, kGroupedMatmul, true, "output bottleneck per head group, down"},
      WeightSpec{"attn_output_b.weight", "attn.wo_b.weight", &L::attn_output_b, {kEmbd, kOLora}, kAll, kMatmul, true, "output bottleneck, up"},
      WeightSpec{"attn_compressor_kv.weight", "attn.compressor.wkv.weight", &L::attn_compressor_kv, {kCompressor, kEmbd}, kCompressed, kMatmul, true, "compressor values, lanes A then B"},
      WeightSpec{"attn_compressor_gate.weight", "attn.compressor.wgate.weight", &L::attn_compressor_gate, {kCompressor, kEmbd}, kCompressed, kMatmul, true, "compressor scores"},
      WeightSpec{"attn_compressor_ape.weight", "attn.compressor.ape", &L::attn_compressor_ape, {kRatio, kCompressor}, kCompressed, kVector, true, "score bias per position in the window"},
      WeightSpec{"attn_compressor_norm.weight", "attn.compressor.norm.weight", &L::attn_compressor_norm, {kHeadDim}, kCompressed, kVector, true, "gain of compressed rows"},
      WeightSpec{"indexer.attn_q_b.weight", "attn.indexer.wq_b.weight", &L::indexer_q_b, {kIndexHeads, kQLora}, kRatio4, kMatmul, true, "indexer queries"},
      WeightSpec{"indexer.proj.weight", "attn.indexer.weights_proj.weight", &L::indexer_proj, {kIndexHead, kEmbd}, kRatio4, kMatmul, true, "weights of the indexer heads"},
      WeightSpec{"indexer_compressor_kv.weight", "attn.indexer.compressor.wkv.weight", &L::indexer_compressor_kv, {kIndexCompressor, kEmbd}, kRatio4, kMatmul, true, "indexer compressor values, lanes A then B"},
      WeightSpec{"indexer_compressor_gate.weight", "attn.indexer.compressor.wgate.weight", &L::indexer_compressor_gate, {kIndexCompressor, kEmbd}, kRatio4, kMatmul, true, "indexer compressor scores"},
      WeightSpec{"indexer_compressor_ape.weight", "attn.indexer.compressor.ape", &L::indexer_compressor_ape, {kRatio, kIndexCompressor}, kRatio4, kVector, true, "score bias per position in the window"},
      WeightSpec{"indexer_compressor_norm.weight", "attn.indexer.compressor.norm.weight", &L::indexer_compressor_norm, {kIndexDim}, kRatio4, kVector, true, "gain of indexer rows"},
      WeightSpec{"hc_ffn_fn.weight", "hc_ffn_fn", &L::hc_ffn_fn, {kHcMix, kHcEmbd}, kAll, kMatmul, true, "stream mixing before the FFN"},
      WeightSpec{"hc_ffn_base.weight", "hc_ffn_base", &L::hc_ffn_base, {kHcMix}, kAll, kVector, true, "its offsets"},
      WeightSpec{"hc_ffn_scale.weight", "hc_ffn_scale", &L::hc_ffn_scale, {kThree}, kAll, kVector, true, "its scales"},
      WeightSpec{"ffn_norm.weight", "ffn_norm.weight", &L::ffn_norm, {kEmbd}, kAll, kVector, true, "gain before the FFN"},
      WeightSpec{"ffn_gate_inp.weight", "ffn.gate.weight", &L::ffn_gate_inp, {kExpert, kEmbd}, kAll, kMatmul, true, "router"},
      WeightSpec{"exp_probs_b.bias", "ffn.gate.bias", &L::exp_probs_bias, {kExpert}, kNotHash, kVector, false, "router bias, for the choice only"},
      WeightSpec{"ffn_gate_tid2eid.weight", "ffn.gate.tid2eid", &L::ffn_gate_tid2eid, {kVocab, kExpertUsed}, kHash, kTokenTable, true, "experts of each token id"},
      WeightSpec{"ffn_gate_exps.weight", "ffn.experts.{}.w1.weight", &L::ffn_gate_exps, {kExpert, kExpertFf, kEmbd}, kAll, kExperts, true, "routed experts, gate"},
      WeightSpec{"ffn_up_exps.weight", "ffn.experts.{}.w3.weight", &L::ffn_up_exps, {kExpert, kExpertFf, kEmbd}, kAll, kExperts, true, "routed experts, up"},
      WeightSpec{"ffn_down_exps.weight", "ffn.experts.{}.w2.weight", &L::ffn_down_exps, {kExpert, kEmbd, kExpertFf}, kAll, kExperts, true, "routed experts, down"},
      WeightSpec{"ffn_gate_shexp.weight", "ffn.shared_experts.w1.weight", &L::ffn_gate_shexp, {kSharedFf, kEmbd}, kAll, kMatmul, true, "shared expert, gate"},
      WeightSpec{"ffn_up_shexp.weight", "ffn.shared_experts.w3.weight", &L::ffn_up_shexp, {kSharedFf, kEmbd}, kAll, kMatmul, true, "shared expert, up"},
      WeightSpec{"ffn_down_shexp.weight", "ffn.shared_experts.w2.weight", &L::ffn_down_shexp, {kEmbd, kSharedFf}, kAll, kMatmul, true, "shared expert, down"},
      WeightSpec{"nextn.eh_proj.weight", "", &L::nextn_eh_proj, {kEmbd, kEmbdTwice}, kNextn, kMatmul, true, "draft input: e_proj columns, then h_proj"},
      WeightSpec{"nextn.enorm.weight", "enorm.weight", &L::nextn_enorm, {kEmbd}, kNextn, kVector, true, "gain of the draft's token embedding"},
      WeightSpec{"nextn.hnorm.weight", "hnorm.weight", &L::nextn_hnorm, {kEmbd}, kNextn, kVector, true, "gain of the draft's streams"},
      WeightSpec{"nextn.shared_head_norm.weight", "norm.weight", &L::nextn_shared_head_norm, {kEmbd}, kNextn, kVector, false, "gain before the head; absent: the main one"},
      WeightSpec{"nextn.hc_head_fn.weight", "hc_head_fn", &L::nextn_hc_head_fn, {kHc, kHcEmbd}, kNextn, kMatmul, false, "stream weights of the draft's head; absent: the main ones"},
      WeightSpec{"nextn.hc_head_base.weight", "hc_head_base", &L::nextn_hc_head_base, {kHc}, kNextn, kVector, false, "their offsets"},
      WeightSpec{"nextn.hc_head_scale.weight", "hc_head_scale", &L::nextn_hc_head_scale, {kOne}, kNextn, kVector, false, "their scale"},
  };
  // clang-format on
  // A member without a row would never be bound.
  static_assert(sizeof(LayerWeights) == 42 * sizeof(TensorView));
  static_assert(kWeights.size() == 42 + 6);
  return kWeights;
}

int64_t dim_value(Dim dim, const Hyperparams& h, int32_t layer) {
  const int32_t ratio = layer < 0 ? 0 : h.ratio(layer);
  const int32_t lanes = ratio == 4 ? 2 : 1;
  switch (dim) {
    case kOne: return 1;
    case kThree: return 3;
    case kEmbd: return h.n_embd;
    case kEmbdTwice: return 2 * int64_t{h.n_embd};
    case kVocab: return h.n_vocab;
    case kHc: return h.n_hc;
    case kHcMix: return h.hc_mix();
    case kHcEmbd: return int64_t{h.n_hc} * h.n_embd;
    case kQLora: return h.q_lora_rank;
    case kHead: return h.n_head;
    case kHeadDim: return h.head_dim;
    case kHeads: return int64_t{h.n_head} * h.head_dim;
    case kOGroupIn: return int64_t{h.n_head} * h.head_dim / h.n_o_group;
    case kOLora: return int64_t{h.n_o_group} * h.o_lora_rank;
    case kRatio: return ratio;
    case kCompressor: return int64_t{lanes} * h.head_dim;
    case kIndexHead: return h.n_index_head;
    case kIndexDim: return h.index_head_dim;
    case kIndexHeads: return int64_t{h.n_index_head} * h.index_head_dim;
    case kIndexCompressor: return 2 * int64_t{h.index_head_dim};
    case kExpert: return h.n_expert;
    case kExpertUsed: return h.n_expert_used;
    case kExpertFf: return h.expert_ff;
    case kSharedFf: return int64_t{h.n_expert_shared} * h.expert_ff;
  }
  return 0;
}

std::string_view dim_name(Dim dim) {
  switch (dim) {
    case kOne: return "1";
    case kThree: return "3";
    case kEmbd: return "n_embd";
    case kEmbdTwice: return "2 n_embd";
    case kVocab: return "n_vocab";
    case kHc: return "n_hc";
    case kHcMix: return "2 n_hc + n_hc^2";
    case kHcEmbd: return "n_hc n_embd";
    case kQLora: return "q_lora_rank";
    case kHead: return "n_head";
    case kHeadDim: return "head_dim";
    case kHeads: return "n_head head_dim";
    case kOGroupIn: return "n_head head_dim / n_o_group";
    case kOLora: return "n_o_group o_lora_rank";
    case kRatio: return "ratio";
    case kCompressor: return "lanes head_dim";
    case kIndexHead: return "n_index_head";
    case kIndexDim: return "index_head_dim";
    case kIndexHeads: return "n_index_head index_head_dim";
    case kIndexCompressor: return "2 index_head_dim";
    case kExpert: return "n_expert";
    case kExpertUsed: return "n_expert_used";
    case kExpertFf: return "expert_ff";
    case kSharedFf: return "n_expert_shared expert_ff";
  }
  return "";
}

Shape weight_shape(const WeightSpec& spec, const Hyperparams& hyperparams, int32_t layer) {
  std::vector<int64_t> extents;
  for (const Dim dim : spec.shape) extents.push_back(dim_value(dim, hyperparams, layer));
  return Shape(std::span<const int64_t>(extents));
}

bool layer_has_weight(const WeightSpec& spec, const Hyperparams& h, int32_t layer) {
  const bool is_draft = layer >= h.n_layer;
  switch (spec.layers) {
    case LayerSet::kModel: return layer < 0;
    case kAll: return layer >= 0;
    case kCompressed: return layer >= 0 && h.ratio(layer) != 0;
    case LayerSet::kRatio4: return layer >= 0 && h.ratio(layer) == 4;
    case kHash: return layer >= 0 && h.is_hash_layer(layer);
    case kNotHash: return layer >= 0 && !h.is_hash_layer(layer);
    case kNextn: return is_draft;
  }
  return false;
}

std::string weight_name(const WeightSpec& spec, int32_t layer) {
  return layer < 0 ? std::string(spec.name) : fmt::format("blk.{}.{}", layer, spec.name);
}

std::vector<ExpectedTensor> expected_tensors(const Hyperparams& hyperparams) {
  std::vector<ExpectedTensor> tensors;
  for (int32_t layer = -1; layer < hyperparams.n_stored_layer(); ++layer) {
    for (const WeightSpec& spec : weight_table()) {
      if (!layer_has_weight(spec, hyperparams, layer)) continue;
      tensors.push_back({&spec, layer, weight_name(spec, layer), weight_shape(spec, hyperparams, layer)});
    }
  }
  return tensors;
}

std::string weights_markdown() {
  static constexpr std::array<std::string_view, 7> kSets = {"model",          "every layer",        "compressed layers",
                                                            "ratio-4 layers", "hash-routed layers", "other layers",
                                                            "draft layer"};
  static constexpr std::array<std::string_view, 6> kUses = {"vector",  "matmul",    "grouped matmul",
                                                            "experts", "embedding", "token table"};
  std::string text =
      "# Weights\n\nGenerated from the weight table of `src/model/weight_table.cc`. Shapes are outermost first (a GGUF "
      "directory lists\n"
      "them in reverse). Layers put `blk.N.` in front of the name and `layers.N.` in front of the checkpoint's "
      "name.\n\n"
      "| name | checkpoint | shape | where | use | meaning |\n|---|---|---|---|---|---|\n";
  for (const WeightSpec& spec : weight_table()) {
    std::string shape;
    for (const Dim dim : spec.shape) shape += fmt::format("{}{}", shape.empty() ? "" : " x ", dim_name(dim));
    text += fmt::format("| {} | {} | {} | {}{} | {} | {} |\n", spec.name, spec.native, shape,
                        kSets[static_cast<size_t>(spec.layers)], spec.required ? "" : ", optional",
                        kUses[static_cast<size_t>(spec.use)], spec.doc);
  }
  return text;
}

}  // namespace ds4
