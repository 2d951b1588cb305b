#pragma once

// A whole run: load the model, measure what was asked for, write the results where they belong. Main thread.

#include <cstdint>

#include "base/clock.h"
#include "base/error.h"
#include "tools/bench/bench_options.h"

namespace ds4 {

// start_us is when the program began.
Result<void> run_bench(const BenchOptions& options, const Clock& clock, int64_t start_us);

}  // namespace ds4
