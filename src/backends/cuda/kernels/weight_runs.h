#pragma once

// Weights of benchmarks, made on the device by the rule of PooledRuns (gguf/weight_source.h).

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ds4::cuda {

struct WeightRuns {
  const uint8_t* pool;  // readable to the next multiple of 4 bytes and 4 more
  uint64_t seed;
  uint64_t n_starts;
  uint32_t block_bytes;
  uint32_t run_bytes;  // a multiple of 4
  uint8_t* out;        // 4-byte aligned
  uint64_t out_bytes;
};

cudaError_t make_weight_runs(const WeightRuns& runs, cudaStream_t stream);

}  // namespace ds4::cuda
