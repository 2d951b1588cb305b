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
#include "model/steering.h"

namespace ds4 {

struct StreamMixer;

enum class LogitsWanted : uint8_t { kNone, kLast, kAll };

struct SequenceInput {
  KvState* kv = nullptr;
  std::span<const int32_t> tokens;  // at least one; all in [0, n_vocab)
  LogitsWanted logits = LogitsWanted::kLast;
  SteeringScales steering = {};  // of all these tokens; other than 0 only when the pass has directions
};

// What a scheduler drives: one step over several sequences. ForwardPass is the model; tests put something in its place.
class StepRunner {
 public:
  virtual ~StepRunner() = default;
  virtual const ForwardLimits& limits() const = 0;
  // See ForwardPass::run.
  virtual Result<std::span<const float>> run(std::span<const SequenceInput> inputs) = 0;
};

class ForwardPass final : public StepRunner {
 public:
  // steering may be null; all must outlive the pass.
  static Result<std::unique_ptr<ForwardPass>> create(Backend& backend, const Model& model, KvCache& cache,
                                                     const ForwardLimits& limits, const Steering* steering = nullptr);

  ~ForwardPass() override;
  ForwardPass(const ForwardPass&) = delete;
  ForwardPass& operator=(const ForwardPass&) = delete;

  // begin, every layer, finish. Logits [n_wanted, n_vocab] f32 in host memory, in the order of the inputs; valid until
  // the next step. Errors: kContextLength or kOutOfMemory from reserving pages, kInvalidArgument for a token outside
  // the vocabulary, kInternal from the device; the KV states are unchanged then.
  Result<std::span<const float>> run(std::span<const SequenceInput> inputs) override;

  // The parts of run(), for tests and tools that look between layers.
  Result<void> begin(std::span<const SequenceInput> inputs);
  void run_layer(int32_t layer);
  Result<std::span<const float>> finish();
  // Streams [n_rows, n_hc, n_embd] as they are now.
  TensorView streams() const;

  const ForwardLimits& limits() const override { return limits_; }

 private:
  // One per row of the step.
  struct StepScales {
    std::vector<float> values;
    TensorView view;  // [R]; empty: every value is 0
  };
  ForwardPass(Backend& backend, const Model& model, KvCache& cache, const ForwardLimits& limits,
              const Steering* steering);
  void run_embedding();
  void run_head();
  Result<std::span<const float>> take_logits();
  // layer_attention.cc
  void run_attention(int32_t il);
  void project_hidden(int32_t il);
  TensorView compressor_rows(TensorView buffer, const CompressorKv& compressor) const;
  CompressArgs compression(const TensorView& ape, const TensorView& norm, const CompressorKv& compressor) const;
  void make_queries(int32_t il);
  void select_rows(int32_t il);
  // layer_ffn.cc
  void run_ffn(int32_t il);
  // forward.cc
  void mix_streams(const StreamMixer& mixer, const TensorView& norm);
  HcSplit split() const;
  TensorView rows(const TensorView& activation) const { return activation.rows(0, batch_.n_rows); }
  // What is to be taken out of the sub-layer's output in this step.
  SteerArgs steering(int32_t il, const StepScales& scales) const;
  const RopeTable& rope_table(int32_t layer) const;
  Result<void> check_inputs(std::span<const SequenceInput> inputs) const;
  Result<void> plan(std::span<const SequenceInput> inputs);
  void plan_rows(std::span<const SequenceInput> inputs);
  void plan_steering();

  Backend& backend_;
  const Model& model_;
  KvCache& cache_;
  ForwardLimits limits_;
  const Steering* steering_;
  Activations activations_;

  // The current step.
  std::vector<SequenceInput> inputs_;
  std::vector<SequenceSpan> spans_;
  std::vector<int32_t> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> wanted_row_ids_;
  StepScales attn_scales_, ffn_scales_;
  BatchView batch_;
  std::unique_ptr<Buffer> host_logits_;  // [logits_rows, n_vocab] f32
};

}  // namespace ds4
