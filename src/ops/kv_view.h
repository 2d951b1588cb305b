#pragma once

// How ops see the KV memory of the sequences in a batch. Nothing here owns memory: model/kv_layout.h
// computes the offsets, model/kv_cache.h owns the buffers. Two kinds of memory:
//
//   frontier  one fixed block per sequence slot: the raw-row ring of the sliding window and the rings of
//             the open compressor windows. Position p lives in ring row p mod (rows of that ring).
//   pages     kPageTokens positions each, shared by reference between sequences: compressed rows, which
//             never change once written. Row r of a compressor with ratio m belongs to positions
//             m*r .. m*r + m - 1, so it lies in page (m*r / kPageTokens) of the sequence's page table.
//
// A view is valid for one step.

#include <cstdint>
#include <span>

#include "base/tensor.h"

namespace ds4 {

inline constexpr int32_t kPageTokens = 256;  // a multiple of both compression ratios

// The two definitions of the arithmetic (docs/numerics.md). kCanonical rounds KV and indexer rows to FP8 and
// FP4 as the model was published and quantises activations against quantised weights; kExact does neither.
enum class NumericProfile : uint8_t { kCanonical, kExact };

enum class KvEncoding : uint8_t {
  kF32,  // exact profile: plain floats
  kFp8,  // E4M3 codes for all but the rotary tail, one E8M0 scale per kFp8Group, F16 tail
  kFp4,  // after a Hadamard rotation: E2M1 codes, one E8M0 scale per kFp4Group
};

inline constexpr int32_t kFp8Group = 64;
inline constexpr int32_t kFp4Group = 32;

struct KvRowFormat {
  KvEncoding encoding = KvEncoding::kF32;
  int32_t width = 0;      // values in a row
  int32_t n_rot = 0;      // rotary tail, kept F16 by kFp8
  int32_t row_bytes = 0;  // padded to 4
};

// A run of consecutive positions of one sequence inside a batch.
struct SequenceSpan {
  int32_t slot = 0;
  int32_t first_row = 0;  // in the batch
  int32_t n_rows = 0;
  int32_t first_position = 0;  // tokens before this span are in the KV memory
};

struct BatchView {
  int32_t n_rows = 0;
  TensorView tokens;                    // [n_rows] i32
  TensorView positions;                 // [n_rows] i32
  std::span<const SequenceSpan> spans;  // ascending first_row, covering all rows
};

// One compressor (attention or indexer) of one layer.
struct CompressorKv {
  int32_t ratio = 0;      // positions per row: 4 or 128
  int32_t n_lanes = 1;    // 2 when windows overlap (ratio 4): lane A for the next row, lane B for the own row
  int32_t ring_rows = 0;  // n_lanes * ratio
  KvRowFormat format;
  uint64_t kv_ring_bytes_offset = 0;     // in the frontier: [ring_rows, n_lanes * width] f32
  uint64_t score_ring_bytes_offset = 0;  // same shape; gate plus position bias
  uint64_t page_bytes_offset = 0;        // of this compressor's rows in every page
};

struct LayerKv {
  int32_t ratio = 0;  // 0: sliding window only
  int32_t window = 0;
  KvRowFormat window_format;
  uint64_t window_bytes_offset = 0;  // in the frontier: [window, row_bytes]
  CompressorKv attention;            // when ratio != 0
  CompressorKv indexer;              // when ratio == 4
};

struct KvMemory {
  TensorView frontiers;   // [n_slots, frontier_bytes] u8
  TensorView pages;       // [n_pages, page_bytes] u8
  TensorView page_table;  // [n_slots, max_pages] i32
};

// Compressed rows that the query at `position` may see: a row is visible to the token that completes it.
inline int32_t visible_rows(int32_t position, int32_t ratio) { return ratio == 0 ? 0 : (position + 1) / ratio; }

}  // namespace ds4
