#pragma once

// The CPU backend: portable C++ that the compiler vectorises, over a thread pool. Results are bitwise independent of
// the number of threads, of the batch and of how a prompt is cut into chunks: every output is computed by one thread
// in one fixed order (kernels.h).

#include <memory>

#include "backends/backend.h"

namespace ds4 {

struct CpuBackendOptions {
  int threads = 0;           // 0: one per core
  bool pin_threads = false;  // each worker to a processor (base/thread_pool.h)
  NumericProfile profile = NumericProfile::kCanonical;
};

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options);

}  // namespace ds4
