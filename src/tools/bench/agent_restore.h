#pragma once

// How fast a long conversation comes back from disk: a checkpoint and its pages are written, dropped from memory, and
// restored from the page cache of the system, against a plain copy of as many bytes. One thread.

#include <cstdint>

#include "tools/bench/agent_run.h"

namespace ds4 {

struct RestoreResult {
  int32_t n_tokens = 0;
  uint64_t bytes = 0;     // pages and frontier
  int64_t save_us = 0;    // until the checkpoint is in memory and queued for the disk
  int64_t flush_us = 0;   // until it is on disk
  int64_t open_us = 0;    // a new engine with the directory
  int64_t load_us = 0;    // best of several: from the files into KV memory
  int64_t memory_us = 0;  // best of several: into a sequence, with everything in memory
  int64_t copy_us = 0;    // best of several: as many bytes within memory

  double share_of_copy() const { return static_cast<double>(copy_us) / static_cast<double>(load_us > 0 ? load_us : 1); }
};

// Precondition: a disk directory. The engine computes nothing, whatever the options say.
Result<RestoreResult> measure_restore(const AgentOptions& options, AgentModel& model, const Clock& clock);

}  // namespace ds4
