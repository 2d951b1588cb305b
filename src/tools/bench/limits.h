#pragma once

// What this machine can do at most with the threads of the run: how fast memory can be read and how many
// multiply-adds its instruction sets reach. Measured, best of several passes, so that every figure of a run can also be
// given as a part of its limit.

#include <string>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace ds4 {

struct PeakRate {
  std::string kind;  // "int8", "bf16", "f32"
  std::string isa;   // "avx2"
  double macs_per_s = 0;
};

struct MachineLimits {
  int n_threads = 0;
  double read_bytes_per_s = 0;
  std::vector<PeakRate> peaks;
  double cpu_share = 0;  // of the processors that the threads got while peaks were measured; well below 1: busy machine

  // The best rate of a kind, whatever instructions it takes; 0 when there is none.
  double peak(std::string_view kind) const;
};

// Takes about a second, and a buffer several times as large as the caches. Error: no memory for it.
Result<MachineLimits> measure_limits(Backend& backend, ThreadPool& threads, const Clock& clock);

// The same of the device that was chosen, and its name. Error: kUnsupported in a program without CUDA.
Result<MachineLimits> measure_device(std::string& name);

// Names of the instruction sets that matter here, of those that this processor has.
std::vector<std::string> instruction_sets();

}  // namespace ds4
