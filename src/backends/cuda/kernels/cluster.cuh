#pragma once

// Blocks of a cluster (compute capability 9.0): their barrier, and the same variable in another block.

#include <cooperative_groups.h>

namespace ds4::cuda {

// All threads of a warp arrive together.
__device__ inline void arrive_cluster() {
  __syncwarp();
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_cluster() {
  __syncwarp();
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
__device__ inline void meet_cluster() {
  arrive_cluster();
  wait_cluster();
}

template <class T>
__device__ T* in_block(T* shared, int rank) {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(shared, rank);
#else
  return shared;
#endif
}

}  // namespace ds4::cuda
