#pragma once

// GgufWriter: writes a GGUF v3 file as a stream, so that a model of any size needs no memory. Order of use:
// fill metadata() and add_tensor(), then write_tensor_data() for every tensor in that order, in pieces of any
// size, then finish(). The file appears under its name only when finish() succeeds (temporary file, fsync,
// rename); without it nothing remains. The same calls give the same bytes. One thread.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"
#include "gguf/metadata.h"

namespace ds4 {

// What a file will hold and where: everything but the tensor data.
class GgufDirectory {
 public:
  struct Extent {
    uint64_t offset_bytes;  // from the start of the file
    uint64_t size_bytes;
  };
  struct Layout {
    std::vector<std::byte> header;  // up to the first tensor, padded
    std::vector<Extent> tensors;
    uint64_t file_size_bytes;
  };

  // general.alignment is honoured when set.
  Metadata& metadata() { return metadata_; }
  // Shape outermost first. Errors: a name twice, a shape that the type cannot hold, a type that files cannot hold.
  Result<void> add_tensor(std::string_view name, DType type, const Shape& shape);
  std::string_view tensor_name(size_t tensor) const { return tensors_[tensor].name; }

  Result<Layout> layout() const;

 private:
  struct Entry {
    std::string name;
    uint32_t ggml_type;
    Shape shape;
    uint64_t size_bytes;
  };

  Metadata metadata_;
  std::vector<Entry> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

class GgufWriter {
 public:
  static Result<GgufWriter> create(const std::string& path);

  // As of GgufDirectory. Precondition of both: no tensor data written yet.
  Metadata& metadata();
  Result<void> add_tensor(std::string_view name, DType type, const Shape& shape);

  // The next bytes of the current tensor; a full tensor makes the next one current.
  // Precondition: a piece does not reach over the end of its tensor.
  Result<void> write_tensor_data(std::span<const std::byte> bytes);

  // Precondition: every tensor is complete.
  Result<void> finish();

 private:
  explicit GgufWriter(AtomicFileWriter file) : file_(std::move(file)) {}
  Result<void> write_header();
  // Zeros up to that offset.
  Result<void> pad_to(uint64_t offset_bytes);

  AtomicFileWriter file_;
  GgufDirectory directory_;
  std::optional<GgufDirectory::Layout> layout_;  // of the header, once it is written
  size_t current_ = 0;
  uint64_t current_bytes_ = 0;  // written of the current tensor
};

}  // namespace ds4
