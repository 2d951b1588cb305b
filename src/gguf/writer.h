#pragma once

// GgufWriter: writes a GGUF v3 file as a stream, so that a model of any size needs no memory. Order of use:
// fill metadata() and add_tensor(), then write_tensor_data() for every tensor in that order, in pieces of any
// size, then finish(). The file appears under its name only when finish() succeeds (temporary file, fsync,
// rename); without it nothing remains. The same calls give the same bytes. One thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/tensor.h"
#include "gguf/metadata.h"

namespace ds4 {

class GgufWriter {
 public:
  static Result<GgufWriter> create(const std::string& path);

  // Precondition: no tensor data written yet. general.alignment is honoured when set.
  Metadata& metadata();
  // Shape outermost first. Precondition as for metadata(). Errors: a name twice, a shape that the type cannot
  // hold, a type that files cannot hold.
  Result<void> add_tensor(std::string_view name, DType type, const Shape& shape);

  // The next bytes of the current tensor; a full tensor makes the next one current.
  // Precondition: a piece does not reach over the end of its tensor.
  Result<void> write_tensor_data(std::span<const std::byte> bytes);

  // Precondition: every tensor is complete.
  Result<void> finish();

 private:
  struct Entry {
    std::string name;
    uint32_t ggml_type;
    Shape shape;
    uint64_t size_bytes;
  };

  explicit GgufWriter(AtomicFileWriter file) : file_(std::move(file)) {}
  Result<void> write_header();
  Result<void> pad_file();

  AtomicFileWriter file_;
  Metadata metadata_;
  std::vector<Entry> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  uint32_t alignment_ = 0;  // 0 until the header is written
  size_t current_ = 0;
  uint64_t current_bytes_ = 0;  // written of the current tensor
};

}  // namespace ds4
