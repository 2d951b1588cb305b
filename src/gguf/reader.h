#pragma once

// GgufFile: a mapped GGUF file, its metadata and its tensor directory. Opening checks the whole directory
// before anything is used: what is found wrong is collected and reported in one error; only where the bytes
// cannot be followed any more (truncation, absurd counts) does the check stop. No memory is taken that the
// file's size does not justify. After open() every tensor of a known type lies inside the file.
// The object is immutable: any thread may read. Views must not outlive it.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "gguf/metadata.h"

namespace ds4 {

struct TensorInfo {
  std::string name;
  uint32_t ggml_type = 0;
  std::optional<DType> type;  // empty when this engine does not know ggml_type
  Shape shape;                // outermost first: the reverse of the file's order
  uint64_t offset_bytes = 0;  // from the start of the file
  uint64_t size_bytes = 0;    // 0 when the type is unknown
};

class WeightGenerator;

class GgufFile {
 public:
  static Result<std::unique_ptr<GgufFile>> open(const std::string& path);
  // A copy of `bytes`; `name` stands for the path in messages.
  static Result<std::unique_ptr<GgufFile>> from_bytes(std::span<const std::byte> bytes, std::string name);

  // For open() and from_bytes(): takes a directory that was checked.
  GgufFile(std::string path, std::unique_ptr<Buffer> buffer, Metadata metadata, std::vector<TensorInfo> tensors);
  ~GgufFile();
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t file_size_bytes() const { return buffer_->size_bytes(); }
  std::span<const std::byte> bytes() const { return {buffer_->host_data(), buffer_->size_bytes()}; }
  const Metadata& metadata() const { return metadata_; }
  std::span<const TensorInfo> tensors() const { return tensors_; }  // in file order
  const TensorInfo* find(std::string_view name) const;
  // Precondition: the tensor is one of this file, of a known type.
  TensorView view(const TensorInfo& tensor) const;

  // The bytes are a mapping of the file at path().
  bool is_mapped() const { return is_mapped_; }
  // Not null: makes the tensors that bytes() does not hold (gguf/weight_source.h).
  const WeightGenerator* generator() const { return generator_.get(); }
  void set_generator(std::unique_ptr<const WeightGenerator> generator);

 private:
  static Result<std::unique_ptr<GgufFile>> parse(std::string path, std::unique_ptr<Buffer> buffer);

  std::string path_;
  std::unique_ptr<Buffer> buffer_;
  bool is_mapped_ = false;
  std::unique_ptr<const WeightGenerator> generator_;
  Metadata metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string_view, size_t> index_;  // keys point into tensors_
};

}  // namespace ds4
