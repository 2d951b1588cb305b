#include "model/cost.h"

#include <algorithm>
#include <cmath>

#include "model/weight_table.h"

namespace ds4 {

namespace {

WeightCost& bucket(const ExpectedTensor& tensor, ModelCost& cost) {
  if (tensor.spec->use == WeightUse::kExperts) return cost.expert;
  if (tensor.spec->layers == LayerSet::kModel) return cost.head;
  const bool is_index_query =
      tensor.spec->name == "indexer.attn_q_b.weight" || tensor.spec->name == "indexer.proj.weight";
  return is_index_query ? cost.index_query : cost.dense;
}

}  // namespace

ModelCost model_cost(const GgufFile& file, const Hyperparams& h) {
  ModelCost cost;
  for (const ExpectedTensor& tensor : expected_tensors(h)) {
    const TensorInfo* info = file.find(tensor.name);
    if (info == nullptr || tensor.layer >= h.n_layer) continue;
    switch (tensor.spec->use) {
      case WeightUse::kEmbedding:
      case WeightUse::kTokenTable: cost.row_bytes += info->size_bytes / static_cast<uint64_t>(h.n_vocab); break;
      case WeightUse::kVector:
        // A row of the position biases belongs to one place in the window.
        if (tensor.spec->name.ends_with("_ape.weight")) {
          cost.row_bytes += info->size_bytes / static_cast<uint64_t>(tensor.shape[0]);
        } else {
          bucket(tensor, cost).bytes += info->size_bytes;
        }
        break;
      case WeightUse::kMatmul:
      case WeightUse::kGroupedMatmul:
        bucket(tensor, cost).bytes += info->size_bytes;
        bucket(tensor, cost).macs += static_cast<uint64_t>(tensor.shape.elements());
        break;
      case WeightUse::kExperts:
        cost.expert.bytes += info->size_bytes / static_cast<uint64_t>(h.n_expert);
        cost.expert.macs += static_cast<uint64_t>(tensor.shape.elements() / h.n_expert);
        break;
    }
  }
  return cost;
}

bool needs_index(const Hyperparams& h, int32_t position) { return visible_rows(position, 4) > h.index_top_k; }

WeightCost attention_cost(const Hyperparams& h, const KvLayout& layout, int32_t position) {
  WeightCost cost;
  for (const LayerKv& layer : layout.layers) {
    const int32_t visible = visible_rows(position, layer.ratio);
    const int32_t used = layer.ratio == 4 ? std::min(visible, h.index_top_k) : visible;
    const auto raw = static_cast<uint64_t>(std::min(position + 1, layer.window));
    const auto rows = raw + static_cast<uint64_t>(used);
    cost.bytes += raw * static_cast<uint64_t>(layer.window_format.row_bytes);
    cost.bytes += static_cast<uint64_t>(used) * static_cast<uint64_t>(layer.attention.format.row_bytes);
    // Each row is multiplied with the query and, weighted, into the output.
    cost.macs += 2 * rows * static_cast<uint64_t>(h.n_head) * static_cast<uint64_t>(h.head_dim);
    if (layer.ratio != 4 || !needs_index(h, position)) continue;
    cost.bytes += static_cast<uint64_t>(visible) * static_cast<uint64_t>(layer.indexer.format.row_bytes);
    cost.macs += static_cast<uint64_t>(visible) * static_cast<uint64_t>(h.n_index_head) *
                 static_cast<uint64_t>(h.index_head_dim);
  }
  return cost;
}

double expected_experts(const Hyperparams& h, int32_t n_rows) {
  const double missed = 1.0 - static_cast<double>(h.n_expert_used) / h.n_expert;
  return h.n_expert * (1.0 - std::pow(missed, n_rows));
}

}  // namespace ds4
