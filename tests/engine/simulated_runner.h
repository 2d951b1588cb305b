#pragma once

// Stands in for the model in tests of scheduling and memory: computes nothing, but writes KV memory the way the model
// does, row for row, and takes its answer from what it reads back. A row that was not restored, belongs to somebody
// else or was overwritten changes the answer. The oracle gives the same answer from the tokens alone.

#include <cstdint>
#include <span>
#include <vector>

#include "model/forward.h"

namespace ds4::test {

class SimulatedRunner final : public StepRunner {
 public:
  SimulatedRunner(KvCache& cache, const ForwardLimits& limits, int32_t n_vocab)
      : cache_(cache), limits_(limits), n_vocab_(n_vocab) {}

  const ForwardLimits& limits() const override { return limits_; }
  Result<std::span<const float>> run(std::span<const SequenceInput> inputs) override;

  uint64_t n_tokens_run() const { return n_tokens_run_; }

 private:
  uint64_t append(KvState& kv, int32_t position, uint64_t word);
  void append_row(const CompressorKv& compressor, int32_t slot, int32_t position, uint64_t hash);
  uint64_t read_rows(const CompressorKv& compressor, int32_t slot, int32_t position) const;

  KvCache& cache_;
  ForwardLimits limits_;
  int32_t n_vocab_;
  std::vector<float> logits_;
  uint64_t n_tokens_run_ = 0;
};

struct SimulatedSteering {
  SteeringScales prompt;
  SteeringScales output;
};

// The tokens that the simulated model answers to a prompt, greedily.
std::vector<int32_t> simulated_answer(const KvLayout& layout, std::span<const int32_t> prompt, int32_t n_tokens,
                                      int32_t n_vocab, const SimulatedSteering& steering = {});

}  // namespace ds4::test
