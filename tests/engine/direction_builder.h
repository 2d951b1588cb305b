#pragma once

// Builds a file of directions from a model's own outputs, as docs/steering.md describes: per layer the mean of what the
// experts (or attention) put out at the last prompt token, over prompts of one kind, minus that over prompts of another
// kind; of length one, and without the part along the second mean.

#include <memory>
#include <string>
#include <vector>

#include "backends/backend_with_ops.h"
#include "engine/engine.h"
#include "ops/forwarding_ops.h"

namespace ds4::test {

enum class SteeredOutput : uint8_t { kAttention, kExperts };

class DirectionBuilder {
 public:
  explicit DirectionBuilder(const std::string& model_path);

  // [n_layer, n_embd]. The prompts are questions of a user, answered without thinking.
  std::vector<float> build(const std::vector<std::string>& wanted, const std::vector<std::string>& contrast,
                           SteeredOutput output);

 private:
  // Keeps the last row of what goes back into the streams.
  class OutputOps final : public ForwardingOps {
   public:
    explicit OutputOps(Ops& inner) : ForwardingOps(inner) {}
    void hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) override;

    std::vector<float> outputs;  // [2 * n_layer, n_embd]: attention and experts of the first layer, and so on
  };

  // Mean outputs [2 * n_layer, n_embd].
  std::vector<double> mean_outputs(const std::vector<std::string>& prompts);

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<OutputOps> ops_;
  std::unique_ptr<BackendWithOps> watched_;
  std::unique_ptr<ForwardPass> forward_;
};

// As a file of directions.
void write_directions(const std::string& path, const std::vector<float>& directions);

}  // namespace ds4::test
