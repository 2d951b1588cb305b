#pragma once

// OpenAI's text completions: POST /v1/completions. The prompt is raw: the text's tokens after a BOS token, no chat
// template, and the answer is whatever text the model writes after it. Several prompts, and several answers to each,
// are choices of one answer. Text never becomes a control token; who wants some sends token ids. docs/server_api.md
// lists every field. Parsing is pure; the answer is written from the engine thread.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/request.h"
#include "server/api.h"
#include "server/http_message.h"

namespace ds4 {

using RawPrompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  std::string model;
  std::vector<RawPrompt> prompts;  // at least one
  int32_t n = 1;                   // answers to each
  SamplingParams sampling;
  int32_t max_tokens = 0;
  std::vector<std::string> stop_strings;
  int32_t n_top_logprobs = -1;
  bool echo = false;
  bool stream = false;
  bool include_usage = false;
};

std::variant<CompletionRequest, ApiError> parse_completion_request(std::string body, const ServedModel& served);

struct CompletionInfo {
  std::string id;
  std::string model;
  std::string system_fingerprint;
  int64_t created_s = 0;
  bool stream = false;
  bool include_usage = false;
  int32_t n = 1;                   // choices per prompt, which follow each other
  std::vector<std::string> echos;  // per choice: what its text begins with
};

std::shared_ptr<AnswerSink> make_completion_answer(CompletionInfo info, std::shared_ptr<Responder> responder);

}  // namespace ds4
