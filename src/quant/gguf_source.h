#pragma once

// A GGUF file of our layout as a ModelSource, with matrices of any float type; all metadata is kept except what
// describes the file's own quantisation. All problems are reported at once by open_gguf_source(). The file must outlive
// the source.

#include <memory>

#include "base/error.h"
#include "gguf/reader.h"
#include "quant/model_source.h"

namespace ds4 {

struct GgufSourceOptions {
  bool allow_extra = false;  // tensors that the weight table does not know; they are left out
};

Result<std::unique_ptr<ModelSource>> open_gguf_source(const GgufFile& file, const GgufSourceOptions& options);

}  // namespace ds4
