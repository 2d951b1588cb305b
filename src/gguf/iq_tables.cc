#include "gguf/iq_tables.h"

#include <cstddef>

namespace ds4 {

namespace {

// Two bits per element from bit 0: 0 is 8, 1 is 25, 2 is 43.
constexpr std::array<uint16_t, 256> kGridCodes = {
#include "gguf/iq2_grid_codes.inc"
};

constexpr Iq2xxsGrid expand_grid() {
  constexpr std::array<uint8_t, 3> kMagnitudes = {8, 25, 43};
  Iq2xxsGrid grid{};
  for (size_t entry = 0; entry < grid.size(); ++entry) {
    for (size_t j = 0; j < 8; ++j) grid[entry][j] = kMagnitudes[(kGridCodes[entry] >> (2 * j)) & 3u];
  }
  return grid;
}

}  // namespace

constexpr Iq2xxsGrid kIq2xxsGrid = expand_grid();

}  // namespace ds4
