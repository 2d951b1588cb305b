#include "tools/bench/limits.h"

#ifdef DS4_WITH_CUDA
#include "backends/cuda/device_limits.h"
#endif

namespace ds4 {

Result<MachineLimits> measure_device(std::string& name) {
#ifdef DS4_WITH_CUDA
  DeviceLimits device = TRY(measure_device_limits());
  name = fmt::format("{}, {} multiprocessors", device.name, device.n_multiprocessors);
  MachineLimits limits{.read_bytes_per_s = device.read_bytes_per_s};
  for (DeviceRate& rate : device.rates)
    limits.peaks.push_back({.kind = std::move(rate.kind), .isa = std::move(rate.isa), .macs_per_s = rate.macs_per_s});
  limits.cpu_share = 1;  // a device is not shared with other threads
  return limits;
#else
  name.clear();
  return make_error(ErrorCode::kUnsupported, "this program was built without CUDA");
#endif
}

}  // namespace ds4
