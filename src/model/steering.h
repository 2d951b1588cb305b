#pragma once

// Directional steering: one direction per layer, which the schedule takes out of the outputs of attention and of the
// experts, or adds to them, by a scale per row (docs/steering.md). A file of directions is raw F32, little endian,
// [n_layer, n_embd], without a header; the draft layer has none. Immutable after load(); the engine owns it beside the
// model, and the backend must outlive it.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/backend.h"
#include "model/hyperparams.h"

namespace ds4 {

// Positive takes the direction out, negative amplifies it, 0 leaves a row alone. Finite.
struct SteeringScales {
  float attn = 0.0f;  // on the output of attention
  float ffn = 0.0f;   // on routed and shared experts together

  bool any() const { return attn != 0.0f || ffn != 0.0f; }
  bool operator==(const SteeringScales&) const = default;
};

class Steering {
 public:
  // Errors: kInvalidArgument for a file of another size or with values that are not finite, those of opening it.
  static Result<std::unique_ptr<Steering>> load(const std::string& path, const Hyperparams& hyperparams,
                                                Backend& backend);

  // [n_embd]; empty where every value is 0, which steers nothing.
  const TensorView& direction(int32_t layer) const { return directions_[static_cast<size_t>(layer)]; }
  // What the file holds: steering is a function of these and of the scales.
  std::span<const float> values() const { return values_; }

 private:
  Steering() = default;

  std::vector<float> values_;
  std::unique_ptr<Buffer> memory_;
  std::vector<TensorView> directions_;
};

}  // namespace ds4
