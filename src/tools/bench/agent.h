#pragma once

// `ds4-bench agent`: loads what is needed, replays, writes the results where they belong. Main thread.

#include "base/clock.h"
#include "base/error.h"
#include "tools/bench/agent_run.h"

namespace ds4 {

Result<void> run_agent_bench(const AgentOptions& options, const Clock& clock);

}  // namespace ds4
