#pragma once

// Launches that overlap: a kernel may start while the one before it on the stream still runs (programmatic dependent
// launch). Such a kernel calls wait_for_inputs() before it touches anything that other kernels write, and should call
// let_next_start() early. Both do nothing in kernels launched the plain way.

#include <cuda_runtime.h>

#include <utility>

namespace ds4::cuda {

// Memory written by the kernels before is visible afterwards, and theirs may be overwritten.
__device__ inline void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

struct Grid {
  dim3 blocks;
  dim3 threads;
  size_t shared_bytes = 0;
  unsigned cluster = 1;  // blocks in x that share memory (compute capability 9.0)
};

// The device of the calling thread can overlap launches (compute capability 9.0).
inline bool overlaps_launches() {
  static const bool overlaps = [] {
    int device = 0;
    int major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
  }();
  return overlaps;
}

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), const Grid& grid, cudaStream_t stream, Arguments&&... arguments) {
  if (grid.shared_bytes > 48 * 1024) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(grid.shared_bytes));
    if (error != cudaSuccess) return error;
  }
  // Kernels that follow each other share a multiprocessor only when all want the same split of L1 and shared memory.
  if (overlaps_launches()) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                                   static_cast<int>(cudaSharedmemCarveoutMaxShared));
    if (error != cudaSuccess) return error;
  }
  cudaLaunchAttribute attributes[2];
  unsigned n_attributes = 0;
  if (overlaps_launches()) {
    attributes[n_attributes].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[n_attributes++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (grid.cluster > 1) {
    attributes[n_attributes].id = cudaLaunchAttributeClusterDimension;
    attributes[n_attributes].val.clusterDim.x = grid.cluster;
    attributes[n_attributes].val.clusterDim.y = 1;
    attributes[n_attributes++].val.clusterDim.z = 1;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = n_attributes;
  return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace ds4::cuda
