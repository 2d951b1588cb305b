#pragma once

// The AMX instructions that backends/cpu/gemm_amx.h uses, in plain C++ after the vendor's description of each. They
// also check what the processor answers with an invalid-opcode fault: shapes that do not fit, tiles without a
// configuration. The tiles belong to a thread, as in the processor.

#include <array>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace ds4::emulated {

struct Tile {
  int n_rows = 0;
  int row_bytes = 0;
  std::array<std::array<int8_t, 64>, 16> rows = {};
};

inline std::array<Tile, 8>& tiles() {
  thread_local std::array<Tile, 8> state;
  return state;
}

inline Tile& tile(int index) {
  Tile& chosen = tiles()[static_cast<size_t>(index)];
  CHECK(chosen.n_rows > 0, "tile {} is not configured", index);
  return chosen;
}

// Bytes 16 to 47: bytes of a row, per tile; from 48: numbers of rows.
inline void tile_loadconfig(const void* config) {
  std::array<uint8_t, 64> bytes;
  std::memcpy(bytes.data(), config, bytes.size());
  CHECK(bytes[0] == 1 && bytes[1] == 0, "palette {}, start row {}", bytes[0], bytes[1]);
  for (size_t i = 0; i < 8; ++i) {
    const int row_bytes = bytes[16 + 2 * i] + 256 * bytes[17 + 2 * i];
    const int n_rows = bytes[48 + i];
    CHECK(row_bytes <= 64 && n_rows <= 16 && (row_bytes == 0) == (n_rows == 0), "tile {}: {} rows of {} bytes", i,
          n_rows, row_bytes);
    tiles()[i] = {.n_rows = n_rows, .row_bytes = row_bytes};
  }
}
inline void tile_release() { tiles() = {}; }

inline void tile_zero(int index) { tile(index).rows = {}; }
inline void tile_loadd(int index, const void* base, int64_t stride) {
  Tile& loaded = tile(index);
  loaded.rows = {};
  for (int r = 0; r < loaded.n_rows; ++r)
    std::memcpy(loaded.rows[static_cast<size_t>(r)].data(), static_cast<const std::byte*>(base) + r * stride,
                static_cast<size_t>(loaded.row_bytes));
}
inline void tile_stored(int index, void* base, int64_t stride) {
  const Tile& stored = tile(index);
  for (int r = 0; r < stored.n_rows; ++r)
    std::memcpy(static_cast<std::byte*>(base) + r * stride, stored.rows[static_cast<size_t>(r)].data(),
                static_cast<size_t>(stored.row_bytes));
}

// sums[m][n] += four products of signed bytes a[m][4 k + i] * b[k][4 n + i], over k.
inline void tile_dpbssd(int sums, int a, int b) {
  Tile& to = tile(sums);
  const Tile& left = tile(a);
  const Tile& right = tile(b);
  CHECK(sums != a && sums != b && a != b, "tiles {}, {} and {} must differ", sums, a, b);
  CHECK(left.n_rows == to.n_rows && right.row_bytes == to.row_bytes && left.row_bytes == 4 * right.n_rows,
        "tiles {}, {} and {} do not fit", sums, a, b);
  for (size_t m = 0; m < static_cast<size_t>(to.n_rows); ++m) {
    std::array<int32_t, 16> row;
    std::memcpy(row.data(), to.rows[m].data(), 64);
    for (size_t k = 0; k < static_cast<size_t>(right.n_rows); ++k) {
      for (size_t n = 0; n < static_cast<size_t>(to.row_bytes) / 4; ++n) {
        for (size_t i = 0; i < 4; ++i) row[n] += int32_t{left.rows[m][4 * k + i]} * right.rows[k][4 * n + i];
      }
    }
    std::memcpy(to.rows[m].data(), row.data(), 64);
  }
}

}  // namespace ds4::emulated
