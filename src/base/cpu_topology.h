#pragma once

// Which processors and memory nodes this process may use, and how to stay on them. Read from the system each time;
// where it does not say (other systems than Linux, closed containers) the answers are those of a machine with one
// memory node, and requests return false: placement makes things faster, nothing depends on it. Any thread.

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ds4 {

// "0-2,8\n" is {0, 1, 2, 8}. Nothing for other text, or more than 65536 numbers.
std::optional<std::vector<int>> parse_cpu_list(std::string_view text);
// "150000 100000\n" is 2: the processors that a control group's quota fills, rounded up. Nothing without a quota.
std::optional<int> parse_cpu_quota(std::string_view text);

// Threads worth starting: the processors this process may run on, or its control group's quota where that is less.
int usable_cpu_count();

// Processors for n_threads pinned threads, each a core of its own while there are enough, spread evenly over the
// cores in order of memory node. Empty when unknown.
std::vector<int> cpus_for_threads(int n_threads);
// The choice among `cores` (one processor of each) and their further hardware threads `siblings`.
std::vector<int> spread_over_cpus(std::span<const int> cores, std::span<const int> siblings, int n_threads);

bool pin_this_thread(int cpu);

// The nodes that have memory; {0} when unknown.
std::vector<int> memory_nodes();
// Pages of that memory not touched yet will come from all nodes in turn. Whole pages inside the span only.
bool interleave_memory(std::span<std::byte> memory, std::span<const int> nodes);
// The same for what this thread is the first to touch from now on, file pages included.
bool interleave_this_thread(std::span<const int> nodes);

}  // namespace ds4
