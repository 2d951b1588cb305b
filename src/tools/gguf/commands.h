#pragma once

// The sub-commands of ds4-gguf. main.cc fills the options from the command line; each command does its work, prints
// what it did to standard output, and returns its errors. Bad values of flags are kInvalidArgument.

#include <string>
#include <vector>

#include "base/error.h"

namespace ds4 {

// How the types of a new file are chosen (quant/recipe.h).
struct TypeOptions {
  std::string recipe;
  std::vector<std::string> layers;
  std::vector<std::string> overrides;
};

// What convert and quantize share.
struct ConvertCommandOptions {
  std::string source_path;
  std::string output_path;
  TypeOptions types;
  std::string name;         // general.name; empty: the folder's, or that of the source file
  std::string license;      // general.license; empty: none, or that of the source file
  std::string chat_format;  // ds4.chat_format; empty: preview, or that of the source file
  bool no_mtp = false;
  bool allow_extra = false;
  bool restart = false;
  int n_threads = 0;  // 0: one per core
};
Result<void> run_convert(const ConvertCommandOptions& options);

struct QuantizeCommandOptions : ConvertCommandOptions {
  std::string imatrix_path;  // empty: none
  std::string report_path;   // empty: none
  bool dry_run = false;
  bool list_tensors = false;
};
Result<void> run_quantize(const QuantizeCommandOptions& options);

struct SynthOptions {
  std::string shape_path;
  std::string output_path;
  TypeOptions types;
  bool mtp = false;
};
Result<void> run_synth(const SynthOptions& options);

struct InspectOptions {
  std::string path;
  std::string backend = "cpu";
  bool all_tensors = false;
};
// Error: every reason why the file would not load.
Result<void> run_inspect(const InspectOptions& options);

struct ImatrixOptions {
  std::string model_path;
  std::vector<std::string> text_paths;
  std::string output_path;
  std::string format = "gguf";  // or dat
  int32_t ctx_tokens = 2048;    // of one chunk
  int32_t step_tokens = 256;
  int32_t max_tokens = 0;   // 0: the whole text
  int32_t skip_chunks = 0;  // at the beginning
  int32_t save_every = 32;  // chunks
  int32_t n_threads = 0;    // 0: one per core
};
// Runs the model over text and collects what its matrices are driven with (quant/imatrix_collector.h).
Result<void> run_imatrix(const ImatrixOptions& options);

struct ImatrixMergeOptions {
  std::string output_path;
  std::vector<std::string> input_paths;
  std::string format = "gguf";
};
Result<void> run_imatrix_merge(const ImatrixMergeOptions& options);

}  // namespace ds4
