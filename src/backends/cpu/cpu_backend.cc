#include "backends/cpu/cpu_backend.h"

#include "backends/cpu/cpu_ops.h"
#include "backends/host_backend.h"

namespace ds4 {

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  const cpu::Kernels& kernels = cpu::kernels_of(options.isa.value_or(cpu::available_isas().back()));
  return std::make_unique<HostBackend>(
      "cpu", options.profile,
      std::make_unique<CpuOps>(ThreadPoolOptions{.n_threads = options.threads, .pin = options.pin_threads}, kernels,
                               options.profile));
}

}  // namespace ds4
