#include "backends/cpu/cpu_backend.h"

#include "backends/cpu/cpu_ops.h"
#include "backends/host_backend.h"

namespace ds4 {

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  return std::make_unique<HostBackend>("cpu", options.profile,
                                       std::make_unique<CpuOps>(options.threads, options.profile));
}

}  // namespace ds4
