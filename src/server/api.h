#pragma once

// What the dialects share: a request, the seam to the engine, errors as clients see them, and names and ids. A dialect
// is a pair of functions: body -> request (or ApiError), and request -> AnswerSink that writes the answer to a
// Responder. Generator is the only door to the model, so tests can stand in for it. All of it may be used by any
// thread.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/message.h"
#include "chat/volatile_text.h"
#include "engine/request.h"
#include "server/http_message.h"
#include "text/tokenizer.h"

namespace ds4 {

// Facts about the served model, and what requests get that do not choose.
struct ServedModel {
  std::string id;    // as listed: no spaces
  std::string name;  // as the file calls itself
  int64_t created_s = 0;
  int32_t ctx_tokens = 0;
  int32_t default_max_tokens = kUnlimitedTokens;
  bool thinks_by_default = true;
  ReasoningEffort default_effort = ReasoningEffort::kDefault;
  bool keeps_volatile_text = false;  // chat/volatile_text.h
  ChatFormat chat_format = ChatFormat::kPreview;
  int32_t trained_ctx_tokens = 0;
  int32_t n_slots = 0;
};

inline constexpr std::string_view kModelAlias = "deepseek-v4-flash";
// The hosted API's names: they choose the thinking mode of requests that do not.
inline constexpr std::string_view kChatAlias = "deepseek-chat";
inline constexpr std::string_view kReasonerAlias = "deepseek-reasoner";

class Generator {
 public:
  virtual ~Generator() = default;
  virtual const ServedModel& model() const = 0;
  // Null: the generator has no vocabulary of its own, and only conversations can be asked for.
  virtual const Tokenizer* tokenizer() const { return nullptr; }
  // Engine::prepare() and EngineThread::submit(). Prompts have the calls that the model made as it made them, whatever
  // the client returns; the sink gets every ToolCallBegin with an id, of which this depends.
  virtual Result<GenerateRequest> prepare(const Conversation& conversation, const RenderOptions& options) const = 0;
  // Engine::bind_rules(): once output.rules are set. One that binds nothing is a stand-in of tests.
  virtual Result<void> bind_rules(GenerateRequest&) const { return {}; }
  virtual Result<void> submit(GenerateRequest request) = 0;
  // Also of a prompt that does not fit.
  virtual Result<size_t> count_prompt_tokens(const Conversation& conversation, const RenderOptions& options) const = 0;
};

// What every dialect's request comes down to.
struct ApiRequest {
  std::string model;  // as the client wrote it; answers repeat it
  Conversation conversation;
  VolatileKinds dropped_text;
  RenderOptions render;
  SamplingParams sampling;
  int32_t max_tokens = kUnlimitedTokens;
  std::vector<std::string> stop_strings;
  int32_t n_top_logprobs = -1;
  OutputRules rules;
  bool stream = false;
};

// Writes the answer to one request, of one choice or several. Called by one thread at a time (server/choices.h).
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // Once, before the first event: the request was accepted, and a stream says so to its client at once.
  virtual void begin() = 0;
  // Every choice ends with Finished, but never as cancelled; or a Failed ends all of them, and is the last event.
  virtual void on_events(size_t choice, OutputEvents events) = 0;
};

struct ApiError {
  int status = 400;
  std::string message;
  std::string param{};                      // the field that is wrong, or empty
  std::string code{};                       // for programs, or empty
  std::optional<size_t> n_prompt_tokens{};  // with code context_length_exceeded
  int32_t n_ctx = 0;
};

// Status and code by the error's code; `param` names the field that an invalid argument came from.
ApiError to_api_error(const Error& error, std::string_view param);

// For an answer that was cancelled: why.
Error cancelled_error(const Responder& responder);

// {"error":{"message","type","param","code"}}, in one line.
std::string openai_error_json(const ApiError& error);
// The same as an answer; busy ones tell when to come back.
HttpResponse openai_error_response(const ApiError& error);

// Lower case, with '-' for everything that is not a letter, digit, '.', '_' or '-'.
std::string model_id_from_name(std::string_view name);

// prefix + 2 * n_bytes hexadecimal digits that nobody can guess.
std::string random_id(std::string_view prefix, size_t n_bytes = 12);

int64_t unix_time_s();

}  // namespace ds4
