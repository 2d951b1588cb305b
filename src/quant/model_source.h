#pragma once

// A model that a new file is made of: its tensors in file order as rows of floats. Implementations: a published
// checkpoint (quant/checkpoint_source.h), a GGUF file (quant/gguf_source.h). Whatever is wrong with a source is
// reported when it is opened, so that reading cannot fail. `tensor` counts tensors(). Immutable; any thread may read.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "gguf/metadata.h"
#include "model/weight_table.h"

namespace ds4 {

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  virtual const std::string& path() const = 0;
  virtual std::span<const ExpectedTensor> tensors() const = 0;
  // The keys that a file with these tensors needs, and what else the source says of the model.
  virtual void write_metadata(Metadata& metadata) const = 0;
  // Of names, types, shapes and the ends of each tensor's data; not of the path.
  virtual uint64_t fingerprint() const = 0;
  // Types that lose precision among the tensors: "Q8_0"; empty when there are none.
  virtual std::string lossy_types() const = 0;

  // Values of a row; out has its width. Precondition of both: the tensor is no token table.
  virtual void read_row(size_t tensor, int64_t row, std::span<float> out) const = 0;
  // Fills `out` with the row in `type` when the source holds the very same codes; else returns false.
  virtual bool copy_row(size_t tensor, int64_t row, DType type, std::span<std::byte> out) const = 0;
  // All elements. Precondition: the tensor is a token table.
  virtual std::vector<int32_t> token_table(size_t tensor) const = 0;
};

// What identifies a tensor without reading all of it; `seed` chains tensors.
uint64_t tensor_fingerprint(std::string_view name, std::string_view type, const Shape& shape,
                            std::span<const std::byte> bytes, uint64_t seed);

}  // namespace ds4
