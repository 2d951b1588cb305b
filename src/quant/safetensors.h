#pragma once

// Reads safetensors files: u64 length of a JSON header, the header (name -> dtype, shape, data_offsets; an optional
// __metadata__), then the data, which the tensors cover without gap or overlap. A Checkpoint is the folder form: one
// model.safetensors, or the files that model.safetensors.index.json names. Files may come from anywhere: every count
// and offset is checked before it is used and all problems are reported at once. Immutable; any thread may read.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace ds4 {

enum class SourceType : uint8_t { kF32, kF16, kBF16, kF8E4M3, kF8E8M0, kI8, kU8, kI32, kI64 };

std::string_view source_type_name(SourceType type);  // as the header spells it: "F8_E4M3"
uint32_t source_type_bytes(SourceType type);

struct SourceTensor {
  std::string name;
  SourceType type = SourceType::kF32;
  Shape shape;                       // outermost first; rank 0 is one value
  std::span<const std::byte> bytes;  // in the file's memory, at any alignment
};

// Tensors in the order of the header. `bytes` must outlive them; `subject` names the file in errors.
Result<std::vector<SourceTensor>> parse_safetensors(std::span<const std::byte> bytes, std::string_view subject);

// Tensor name -> file name, from the text of a model.safetensors.index.json. File names are plain: no folders.
Result<std::map<std::string, std::string>> parse_safetensors_index(std::string_view json, std::string_view subject);

class Checkpoint {
 public:
  static Result<Checkpoint> open(const std::string& folder);

  const std::string& folder() const { return folder_; }
  // Names without the "model." that some exports put in front.
  const std::map<std::string, SourceTensor, std::less<>>& tensors() const { return tensors_; }
  const SourceTensor* find(std::string_view name) const;

 private:
  static std::string_view plain_name(std::string_view name);
  void add_file(const std::string& name, ProblemList& problems);

  std::string folder_;
  std::vector<std::unique_ptr<Buffer>> files_;
  std::map<std::string, SourceTensor, std::less<>> tensors_;
};

}  // namespace ds4
