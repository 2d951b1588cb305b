#pragma once

// Loops that do one thing as fast as a device can: read memory, multiply on the matrix units. They give the limits that
// benchmarks are compared with.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace ds4::cuda {

// Reads n_bytes (a multiple of 16) once, and writes something that depends on all of them into `sink`.
cudaError_t read_stream(const uint8_t* data, uint64_t n_bytes, uint32_t* sink, int n_multiprocessors,
                        cudaStream_t stream);

// What a matrix loop multiplies, and with which instructions.
enum class MatrixLoop : int { kBf16Mma, kInt8Mma, kBf16Wgmma, kInt8Wgmma };

// Multiply-adds of one launch with so many rounds; 0: the device has no such instructions.
uint64_t matrix_loop_macs(MatrixLoop loop, int n_multiprocessors, int major, int rounds);
cudaError_t matrix_loop(MatrixLoop loop, int rounds, uint32_t* sink, int n_multiprocessors, cudaStream_t stream);

}  // namespace ds4::cuda
