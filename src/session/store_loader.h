#pragma once

// What a disk store does when it opens: reads the segments of the directory into the index. Runs before the writer
// thread exists.

#include <cstdint>
#include <optional>

#include "session/store_state.h"

namespace ds4 {

struct LoadedSegments {
  uint32_t last_number = 0;
  // The youngest segment of this identity, when records can still be appended to it.
  std::optional<SegmentScan> unsealed;
};

// Error: the directory cannot be listed. Everything else that is wrong becomes a notice.
Result<LoadedSegments> load_segments(StoreState& state);

}  // namespace ds4
