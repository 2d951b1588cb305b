#pragma once

// The one place where programs make a backend out of their options. A program that was built without CUDA knows the
// options for it, and says so. Main thread.

#include <memory>
#include <string>

#include "backends/backend.h"
#include "base/error.h"
#include "engine/engine.h"

namespace ds4 {

// "cpu, cuda": what this program can make.
std::string available_backends();
// Nothing wrong with that kind, or why this program cannot make it, in one line.
Result<void> check_backend_available(DeviceKind kind);

// For EngineOptions::make_backend. Errors: kUnsupported as above, or what the device says.
Result<std::unique_ptr<Backend>> make_chosen_backend(const EngineOptions& options);

}  // namespace ds4
