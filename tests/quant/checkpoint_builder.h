#pragma once

// Writes small checkpoints in the vendor's layout, tensor by tensor, for the tests of safetensors and conversion.

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/hyperparams.h"
#include "quant/safetensors.h"

namespace ds4 {

struct BuilderTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

// Deterministic bytes of that many values: BF16 and F32 are small numbers, FP8 and FP4 any finite code, scales near 1;
// expert ids are below 4.
BuilderTensor make_tensor(std::string_view dtype, std::vector<int64_t> shape, uint64_t seed);

class CheckpointBuilder {
 public:
  CheckpointBuilder() = default;
  // Every tensor that a model of that shape needs, in the vendor's types: BF16 matrices and gains, F32 the rest, I64
  // token tables; with `quantized`, FP8 attention and shared expert and FP4 experts, with their scales.
  CheckpointBuilder(const Hyperparams& hyperparams, bool quantized);

  std::map<std::string, BuilderTensor> tensors;

  // model.safetensors, or `n_files` files and an index.
  void write(const std::string& folder, size_t n_files = 1) const;

 private:
  void add_matrix(const std::string& name, const Shape& shape, std::string_view dtype);
};

std::vector<std::byte> safetensors_bytes(const std::map<std::string, BuilderTensor>& tensors);
// A length, a header of any text, and data.
std::vector<std::byte> safetensors_bytes(std::string_view header, std::span<const std::byte> data);
void write_bytes(const std::string& path, std::span<const std::byte> bytes);

}  // namespace ds4
