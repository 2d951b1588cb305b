// Any text gives nothing or processors and quotas that make sense.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "base/cpu_topology.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto cpus = ds4::parse_cpu_list(text)) {
    for (const int cpu : *cpus) CHECK(cpu >= 0, "processor {}", cpu);
  }
  if (const auto quota = ds4::parse_cpu_quota(text)) CHECK(*quota >= 1, "quota {}", *quota);
  return 0;
}
