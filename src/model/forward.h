#pragma once

// THE schedule: what DeepSeek-V4 computes, once, for prefill chunks, batched decode of several sequences and any
// mix, on every backend. A step takes for each sequence the tokens to append to its KV state and returns the wanted
// logits. Start reading at layer_attention.cc. The engine thread owns one ForwardPass; all memory of a step is
// allocated in create().

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backends/backend.h"
#include "model/activations.h"
#include "model/kv_cache.h"
#include "model/model.h"

namespace ds4 {

enum class LogitsWanted : uint8_t { kNone, kLast, kAll };

struct SequenceInput {
  KvState* kv = nullptr;
  std::span<const int32_t> tokens;  // at least one; all in [0, n_vocab)
  LogitsWanted logits = LogitsWanted::kLast;
};

struct ForwardLimits {
  int32_t batch_rows = 512;  // tokens of one step
  int32_t logits_rows = 64;  // wanted logits of one step
};

class ForwardPass {
 public:
  static Result<std::unique_ptr<ForwardPass>> create(Backend& backend, const Model& model, KvCache& cache,
                                                     const ForwardLimits& limits);

  // begin, every layer, finish. Logits [n_wanted, n_vocab] f32 in host memory, in the order of the inputs; valid until
  // the next step. Errors: kContextLength or kOutOfMemory from reserving pages, kInvalidArgument for a token outside
  // the vocabulary, kInternal from the device; the KV states are unchanged then.
  Result<std::span<const float>> run(std::span<const SequenceInput> inputs);

  // The parts of run(), for tests and tools that look between layers.
  Result<void> begin(std::span<const SequenceInput> inputs);
  void run_layer(int32_t layer);
  Result<std::span<const float>> finish();
  // Streams [n_rows, n_hc, n_embd] as they are now.
  TensorView streams() const;

  const ForwardLimits& limits() const { return limits_; }

 private:
  ForwardPass(Backend& backend, const Model& model, KvCache& cache, const ForwardLimits& limits);
  void run_attention(int32_t layer);
  TensorView run_compressors(int32_t layer, const TensorView& hidden);
  void select_rows(int32_t layer, const TensorView& hidden);
  void run_ffn(int32_t layer);
  void hc_pre(const TensorView& fn, const TensorView& scale, const TensorView& base);
  const RopeTable& rope_table(int32_t layer) const;

  Backend& backend_;
  const Model& model_;
  KvCache& cache_;
  ForwardLimits limits_;
  Activations activations_;

  // The current step.
  std::vector<SequenceInput> inputs_;
  std::vector<SequenceSpan> spans_;
  std::vector<int32_t> logits_row_ids_;
  BatchView batch_;
  std::vector<float> host_logits_;
};

}  // namespace ds4
