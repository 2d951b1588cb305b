#pragma once

// What the current device can do at most, measured: the best of several passes of loops that do nothing else. Takes
// some hundred milliseconds and 2 GiB of device memory.

#include <string>
#include <vector>

#include "base/error.h"

namespace ds4 {

struct DeviceRate {
  std::string kind;  // "int8", "bf16"
  std::string isa;   // "mma", "wgmma"
  double macs_per_s = 0;
};

struct DeviceLimits {
  std::string name;
  int n_multiprocessors = 0;
  double read_bytes_per_s = 0;
  std::vector<DeviceRate> rates;
};

Result<DeviceLimits> measure_device_limits();

}  // namespace ds4
