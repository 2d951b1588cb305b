#pragma once

// A model without numbers: tokens are appended to their sequences as by a forward pass, but nothing is computed, and
// all logits are 0. For programs that measure or test everything around the model. Used like any StepRunner.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/forward.h"

namespace ds4 {

class EmptyRunner final : public StepRunner {
 public:
  EmptyRunner(const ForwardLimits& limits, int32_t n_vocab);

  const ForwardLimits& limits() const override { return limits_; }
  Result<std::span<const float>> run(std::span<const SequenceInput> inputs) override;

 private:
  ForwardLimits limits_;
  size_t n_vocab_;
  std::vector<float> logits_;
};

}  // namespace ds4
