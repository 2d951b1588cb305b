#pragma once

// Sizes of launches that depend on the device.

#include <cuda_runtime_api.h>

#include <cstddef>

namespace ds4::cuda {

// Of a block on compute capability 9.0; devices of 8.x refuse the launches that need more than theirs.
inline constexpr size_t kMaxSharedBytes = 227 * 1024;
// With so much two blocks share a multiprocessor, as a kernel and the next do for a moment.
inline constexpr size_t kHalfSharedBytes = 113 * 1024;

// Of the calling thread's device.
inline int multiprocessors() {
  static const int n = [] {
    int device = 0, count = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return 1;
    if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
    return count;
  }();
  return n;
}

}  // namespace ds4::cuda
