// Reading: every thread keeps four independent 16-byte loads in flight, eight blocks of 256 on each multiprocessor.
// Multiplying: mma.sync on registers (any device from compute capability 8.0), and wgmma on tiles of 64 x 128 that stay
// in shared memory (9.0a), two warp groups a block, two blocks a multiprocessor. Operands are random, because zeros
// cost less power and run faster than data does.

#include <type_traits>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/limits.h"

namespace ds4::cuda {
namespace {

constexpr int kReadThreads = 256;
constexpr int kReadBlocks = 8;
constexpr int kMmaThreads = 256;
constexpr int kMmaBlocks = 4;
constexpr int kMmaChains = 8;
constexpr int kGroupThreads = 256;
constexpr int kGroupBlocks = 2;
constexpr int kGroupSteps = 4;
[[maybe_unused]] constexpr int kTileBytes = 2048;  // 64 rows of 32 bytes; B has twice as many rows

__global__ void __launch_bounds__(kReadThreads) read_kernel(const uint4* data, uint64_t n, uint32_t* sink) {
  const uint64_t stride = uint64_t{gridDim.x} * kReadThreads;
  uint32_t sum = 0;
  const auto add = [&](uint4 v) { sum ^= v.x ^ v.y ^ v.z ^ v.w; };
  uint64_t i = uint64_t{blockIdx.x} * kReadThreads + threadIdx.x;
  for (; i + 3 * stride < n; i += 4 * stride) {
    const uint4 a = __ldcs(data + i), b = __ldcs(data + i + stride);
    const uint4 c = __ldcs(data + i + 2 * stride), d = __ldcs(data + i + 3 * stride);
    add(a);
    add(b);
    add(c);
    add(d);
  }
  for (; i < n; i += stride) add(__ldcs(data + i));
  if (sum == 0x5EED5EEDu) *sink = sum;
}

// A pair of bf16 in (-1, 1), or four int8.
__device__ uint32_t operand(uint32_t seed) {
  uint32_t z = seed * 0x9E3779B9u + 0x85EBCA6Bu;
  z = (z ^ (z >> 16)) * 0x7FEB352Du;
  return (z & 0x80FF80FFu) | 0x3F003F00u;
}

template <bool kInt8>
__global__ void __launch_bounds__(kMmaThreads) mma_kernel(int rounds, uint32_t* sink) {
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = operand(threadIdx.x * 4 + i);
  for (int i = 0; i < 2; ++i) b[i] = operand(threadIdx.x * 2 + i + 4096);
  uint32_t d[kMmaChains][4] = {};
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int chain = 0; chain < kMmaChains; ++chain) {
      uint32_t* c = d[chain];
      if constexpr (kInt8) {
        asm volatile(
            "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      } else {
        auto* f = reinterpret_cast<float*>(c);
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(f[0]), "+f"(f[1]), "+f"(f[2]), "+f"(f[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
      }
    }
  }
  uint32_t sum = 0;
  for (int chain = 0; chain < kMmaChains; ++chain) sum ^= d[chain][0] ^ d[chain][1] ^ d[chain][2] ^ d[chain][3];
  if (sum == 0x5EED5EEDu) *sink = sum;
}

#define DS4_REGISTERS_64                                                                                        \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28," \
  "%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,"    \
  "%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define DS4_OPERANDS_8(kind, d, i)                                                                            \
  kind(d[i]), kind(d[i + 1]), kind(d[i + 2]), kind(d[i + 3]), kind(d[i + 4]), kind(d[i + 5]), kind(d[i + 6]), \
      kind(d[i + 7])
#define DS4_OPERANDS_64(kind, d)                                                                                    \
  DS4_OPERANDS_8(kind, d, 0), DS4_OPERANDS_8(kind, d, 8), DS4_OPERANDS_8(kind, d, 16), DS4_OPERANDS_8(kind, d, 24), \
      DS4_OPERANDS_8(kind, d, 32), DS4_OPERANDS_8(kind, d, 40), DS4_OPERANDS_8(kind, d, 48),                        \
      DS4_OPERANDS_8(kind, d, 56)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// Core matrices of 8 x 16 bytes one after the other, two across the 32 bytes of a step.
__device__ uint64_t tile_descriptor(const void* tile) {
  const auto address = static_cast<uint64_t>(__cvta_generic_to_shared(tile));
  constexpr uint64_t kLeading = 128 >> 4, kStride = 256 >> 4;
  return (address & 0x3FFFF) >> 4 | kLeading << 16 | kStride << 32;
}
#endif

template <bool kInt8>
__global__ void __launch_bounds__(kGroupThreads) wgmma_kernel(int rounds, uint32_t* sink) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ alignas(128) uint32_t tiles[kGroupSteps * 3 * kTileBytes / 4];
  for (int i = threadIdx.x; i < kGroupSteps * 3 * kTileBytes / 4; i += kGroupThreads) tiles[i] = operand(i);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  std::conditional_t<kInt8, uint32_t, float> d[64] = {};
  for (int round = 0; round < rounds; ++round) {
    if constexpr (kInt8) {
      asm volatile("wgmma.fence.sync.aligned;" : DS4_OPERANDS_64("+r", d)::"memory");
    } else {
      asm volatile("wgmma.fence.sync.aligned;" : DS4_OPERANDS_64("+f", d)::"memory");
    }
#pragma unroll
    for (int step = 0; step < kGroupSteps; ++step) {
      const uint64_t a = tile_descriptor(tiles + step * 3 * kTileBytes / 4);
      const uint64_t b = tile_descriptor(tiles + (step * 3 + 1) * kTileBytes / 4);
      if constexpr (kInt8) {
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 " DS4_REGISTERS_64 ", %64, %65, 1;"
                     : DS4_OPERANDS_64("+r", d)
                     : "l"(a), "l"(b));
      } else {
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " DS4_REGISTERS_64
                     ", %64, %65, 1, 1, 1, 0, 0;"
                     : DS4_OPERANDS_64("+f", d)
                     : "l"(a), "l"(b));
      }
    }
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if constexpr (kInt8) {
      asm volatile("wgmma.wait_group.sync.aligned 0;" : DS4_OPERANDS_64("+r", d)::"memory");
    } else {
      asm volatile("wgmma.wait_group.sync.aligned 0;" : DS4_OPERANDS_64("+f", d)::"memory");
    }
  }
  uint32_t sum = 0;
  for (int i = 0; i < 64; ++i) sum ^= kInt8 ? static_cast<uint32_t>(d[i]) : __float_as_uint(static_cast<float>(d[i]));
  if (sum == 0x5EED5EEDu) *sink = sum;
#endif
}

bool is_group(MatrixLoop loop) { return loop == MatrixLoop::kBf16Wgmma || loop == MatrixLoop::kInt8Wgmma; }

}  // namespace

cudaError_t read_stream(const uint8_t* data, uint64_t n_bytes, uint32_t* sink, int n_multiprocessors,
                        cudaStream_t stream) {
  read_kernel<<<n_multiprocessors * kReadBlocks, kReadThreads, 0, stream>>>(reinterpret_cast<const uint4*>(data),
                                                                            n_bytes / sizeof(uint4), sink);
  return cudaGetLastError();
}

uint64_t matrix_loop_macs(MatrixLoop loop, int n_multiprocessors, int major, int rounds) {
  const uint64_t launches = static_cast<uint64_t>(n_multiprocessors) * static_cast<uint64_t>(rounds);
  const uint64_t depth = loop == MatrixLoop::kInt8Mma || loop == MatrixLoop::kInt8Wgmma ? 32 : 16;
  if (is_group(loop)) return major == 9 ? launches * kGroupBlocks * 2 * kGroupSteps * 64 * 128 * depth : 0;
  return launches * kMmaBlocks * (kMmaThreads / kWarp) * kMmaChains * 16 * 8 * depth;
}

cudaError_t matrix_loop(MatrixLoop loop, int rounds, uint32_t* sink, int n_multiprocessors, cudaStream_t stream) {
  const int n_blocks = n_multiprocessors * (is_group(loop) ? kGroupBlocks : kMmaBlocks);
  switch (loop) {
    case MatrixLoop::kBf16Mma: mma_kernel<false><<<n_blocks, kMmaThreads, 0, stream>>>(rounds, sink); break;
    case MatrixLoop::kInt8Mma: mma_kernel<true><<<n_blocks, kMmaThreads, 0, stream>>>(rounds, sink); break;
    case MatrixLoop::kBf16Wgmma: wgmma_kernel<false><<<n_blocks, kGroupThreads, 0, stream>>>(rounds, sink); break;
    case MatrixLoop::kInt8Wgmma: wgmma_kernel<true><<<n_blocks, kGroupThreads, 0, stream>>>(rounds, sink); break;
  }
  return cudaGetLastError();
}

}  // namespace ds4::cuda
