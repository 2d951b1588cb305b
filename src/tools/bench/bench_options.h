#pragma once

// What a run of ds4-bench was asked to do. Filled from the command line by main.cc. Plain values.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace ds4 {

struct SubjectOptions {
  EngineOptions engine;                     // model file, threads, profile
  std::string synthetic;                    // name of a shape: no file is read
  std::string recipe = "q2";                // its types
  std::vector<std::string> type_overrides;  // PATTERN=TYPE
  std::string isa;                          // kernels to use; empty: the best
  std::string save_path;                    // where to write it as GGUF
  // What a device must hold beside the weights, to be refused before they are loaded; ctx_tokens 0: not checked.
  int32_t plan_slots = 1, plan_ctx_tokens = 0, plan_chunk_tokens = 0;
};

// The frontier method: one growing sequence, measured at certain lengths.
struct SweepOptions {
  std::string prompt_file;
  std::string chat_prompt_file;
  std::string system = "You are a helpful assistant";
  bool random_prompt = false;
  int32_t ctx_start = 2048;
  int32_t ctx_max = 32768;
  int32_t ctx_alloc = 0;  // 0: what the sweep needs
  int32_t step_incr = 2048;
  double step_mul = 1.0;
  std::string csv_path;    // empty: stdout
  std::string logits_dir;  // empty: none

  bool is_wanted() const { return !prompt_file.empty() || !chat_prompt_file.empty() || random_prompt; }
};

struct BenchOptions {
  SubjectOptions subject;
  SweepOptions sweep;
  std::vector<int32_t> prefill_lengths;
  std::vector<int32_t> sequence_counts;
  int32_t gen_tokens = 128;
  int32_t decode_ctx = 128;  // tokens before the first decoded one
  int32_t repeat = 0;        // 0: three times, a sweep once
  int32_t warmup = 1;
  int32_t chunk_tokens = EngineOptions{}.prefill_chunk_tokens;
  bool fill_kv = false;
  bool profile_ops = false;
  bool no_limits = false;
  bool warm_weights = false;
  std::string json_path;  // "-": stdout
  std::string svg_path;
};

}  // namespace ds4
