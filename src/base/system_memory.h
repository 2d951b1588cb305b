#pragma once

// How much memory this process may still take: the machine's available memory, or what its control group leaves where
// that is less. Any thread.

#include <cstdint>
#include <optional>
#include <string_view>

namespace ds4 {

// "MemAvailable:   123 kB" of /proc/meminfo, in bytes.
std::optional<uint64_t> parse_available_memory(std::string_view meminfo);
// What a control group's limit ("max\n" or bytes) leaves beside what it uses; nothing without a limit.
std::optional<uint64_t> parse_group_memory(std::string_view limit, std::string_view used);

// Nothing where the system does not say.
std::optional<uint64_t> available_memory_bytes();

}  // namespace ds4
