#pragma once

// The CPU backend: kernels for the processor's instruction set over a thread pool. Results are bitwise independent of
// the number of threads, of the batch, of how a prompt is cut into chunks and of the instruction set: every output is
// computed by one thread in one fixed order (kernels.h).

#include <memory>
#include <optional>

#include "backends/backend.h"
#include "backends/cpu/kernels.h"

namespace ds4 {

struct CpuBackendOptions {
  int threads = 0;           // 0: one per core
  bool pin_threads = false;  // each worker to a processor (base/thread_pool.h)
  NumericProfile profile = NumericProfile::kCanonical;
  std::optional<cpu::Isa> isa = {};  // must be available; empty: the fastest that is
};

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace ds4
