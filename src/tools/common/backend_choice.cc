#include "tools/common/backend_choice.h"

#include "backends/cpu/cpu_backend.h"
#ifdef DS4_WITH_CUDA
#include "backends/cuda/cuda_backend.h"
#endif

namespace ds4 {

std::string available_backends() {
#ifdef DS4_WITH_CUDA
  return "cpu, cuda";
#else
  return "cpu";
#endif
}

Result<void> check_backend_available(DeviceKind kind) {
#ifdef DS4_WITH_CUDA
  (void)kind;
#else
  if (kind == DeviceKind::kCuda) {
    return make_error(ErrorCode::kUnsupported, "this program was built without CUDA (docs/cuda.md); available: {}",
                      available_backends());
  }
#endif
  return {};
}

Result<std::unique_ptr<Backend>> make_chosen_backend(const EngineOptions& options) {
  TRY(check_backend_available(options.device_kind));
#ifdef DS4_WITH_CUDA
  if (options.device_kind == DeviceKind::kCuda)
    return make_cuda_backend({.device = options.device, .profile = options.profile});
#endif
  return make_cpu_backend(
      {.threads = options.n_threads, .pin_threads = options.pin_threads, .profile = options.profile});
}

}  // namespace ds4
