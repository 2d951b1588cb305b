#pragma once

// What the system says about itself and about this process. Empty or 0 where it does not say. Any thread.

#include <cstdint>
#include <string>

namespace ds4 {

struct MachineInfo {
  std::string cpu_model;
  std::string system;  // "Linux 6.1.0 x86_64"
  int n_cpus = 0;      // that this process may use
  uint64_t memory_bytes = 0;
  double load_average = 0;  // of the last minute, before the run
};
MachineInfo machine_info();

struct ProcessMemory {
  uint64_t resident_bytes = 0;
  uint64_t peak_resident_bytes = 0;
};
ProcessMemory process_memory();
// The peak counts from here. False where the system does not offer that.
bool reset_peak_memory();
// Bytes that this process has had to fetch from storage, page faults in mapped files included.
uint64_t storage_read_bytes();

// "2026-01-31T12:00:00Z"
std::string utc_time_now();

}  // namespace ds4
