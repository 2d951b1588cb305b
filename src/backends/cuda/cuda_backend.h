#pragma once

// The CUDA backend: weights and KV memory on one device, ops as kernels on one stream. Every output is computed in one
// fixed order without atomic sums, so results depend on the inputs only. File mappings are never handed to the driver:
// weights go through pinned memory. One thread.

#include <memory>

#include "backends/backend.h"

namespace ds4 {

struct CudaBackendOptions {
  int device = 0;
  NumericProfile profile = NumericProfile::kCanonical;
};

// Error kUnsupported: no driver, no such device, or one that is too old; says what was found.
Result<std::unique_ptr<Backend>> make_cuda_backend(const CudaBackendOptions& options);

}  // namespace ds4
