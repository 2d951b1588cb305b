#pragma once

// The sub-commands of ds4-gguf. main.cc fills the options from the command line; each command does its work, prints
// what it did to standard output, and returns its errors. Bad values of flags are kInvalidArgument.

#include <string>
#include <vector>

#include "base/error.h"

namespace ds4 {

struct SynthOptions {
  std::string shape_path;
  std::string output_path;
  std::string recipe = "f32";
  std::vector<std::string> type_overrides;
  bool mtp = false;
};
Result<void> run_synth(const SynthOptions& options);

}  // namespace ds4
