#pragma once

// Outputs for other programs: tokens of a text, log-probabilities of a greedy answer, raw logits of given tokens.
// docs/cli.md describes the formats. They compute on the calling thread: no EngineThread may run meanwhile.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/engine.h"

namespace ds4 {

// Ids as one list, then one line per token with id and vocabulary spelling, on stdout. Spelt control tokens count.
Result<void> dump_tokens(const std::string& model_path, std::string_view text);

struct LogprobsDump {
  std::string output_path;
  int32_t top_k = 20;
  int32_t max_tokens = 0;
};
// A greedy answer to the prompt as JSON, one step per token, up to and with the end token.
Result<void> dump_logprobs(Engine& engine, std::span<const int32_t> prompt_tokens, const LogprobsDump& dump);

struct LogitsDump {
  std::string output_path;     // float32 rows [n_positions, n_vocab]
  std::string token_ids_path;  // JSON array of ids
  std::string positions_path;  // JSON array of positions, ascending; empty: all
};
// options.prefill_chunk_tokens is the chunk; options.ctx_tokens may be 0: as long as the tokens.
Result<void> dump_logits(EngineOptions options, const LogitsDump& dump);

}  // namespace ds4
