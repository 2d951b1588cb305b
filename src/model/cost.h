#pragma once

// What a step must at least read and multiply, from the shape, the types of a file and the KV layout: the numbers that
// a measured time is divided by to see how near it is to the machine's limits. Weights count as stored, once per step;
// an expert counts when a row of the step uses it. Values.

#include <cstdint>

#include "gguf/reader.h"
#include "model/hyperparams.h"
#include "model/kv_layout.h"

namespace ds4 {

struct WeightCost {
  uint64_t bytes = 0;
  uint64_t macs = 0;  // multiply-adds per row
};

struct ModelCost {
  WeightCost dense;        // every layer: attention, shared expert, compressors, router, stream mixing
  WeightCost index_query;  // of ratio-4 layers; needed only where more rows are visible than are selected
  WeightCost head;         // read in steps that want logits, multiplied for their rows
  WeightCost expert;       // one expert of every layer
  uint64_t row_bytes = 0;  // per row of the step: embedding, token tables, position biases
};

// Tensors that the file lacks cost nothing; the draft layer is not part of a step.
ModelCost model_cost(const GgufFile& file, const Hyperparams& hyperparams);

// What one token at `position` reads of the KV memory and multiplies with it.
WeightCost attention_cost(const Hyperparams& hyperparams, const KvLayout& layout, int32_t position);
// Whether the token at `position` has more compressed rows in view than the indexer selects.
bool needs_index(const Hyperparams& hyperparams, int32_t position);

// Distinct experts of a layer that n_rows rows use, when every choice is equally likely.
double expected_experts(const Hyperparams& hyperparams, int32_t n_rows);

}  // namespace ds4
