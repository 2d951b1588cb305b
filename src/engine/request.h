#pragma once

// What a client asks of the engine: with chat/events.h the waist between every dialect and program and the one engine.
// A request is built on any thread, handed over once, and read by the engine thread only; what comes back are
// events, ending with exactly one Finished or Failed. Nothing else flows back but the cancel flag.

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/events.h"
#include "model/steering.h"

namespace ds4 {

class AnswerGrammar;

// Added to a token's logit; OpenAI's range is -100 to 100, where the ends decide alone.
struct TokenBias {
  int32_t token = 0;
  float value = 0;
};

// Out-of-range values are brought into range as engine/sampler.h says; front ends that must refuse them do it before.
struct SamplingParams {
  float temperature = 1.0F;  // 0: always the most likely token
  float top_p = 1.0F;        // 1: off
  float min_p = 0.05F;       // 0: off
  int32_t top_k = 0;         // 0: off
  std::optional<uint64_t> seed;
  // engine/logit_adjuster.h
  float presence_penalty = 0.0F;    // 0: off
  float frequency_penalty = 0.0F;   // 0: off
  float repetition_penalty = 1.0F;  // 1: off
  std::vector<TokenBias> logit_bias{};
};

// Which tokens are steered.
enum class SteeringPolicy : uint8_t {
  kAlways,       // all, of the prompt too
  kDecoding,     // every generated token
  kFinalAnswer,  // generated text that a user reads: no reasoning, no tool calls, nothing before tools were used
  kOff,
};

inline constexpr float kMaxSteeringScale = 100.0F;

struct SteeringSettings {
  SteeringScales scales;
  SteeringPolicy policy = SteeringPolicy::kAlways;

  // Where tokens are run without a request: those that are given, and those that are chosen.
  SteeringScales for_prompt() const { return policy == SteeringPolicy::kAlways ? scales : SteeringScales{}; }
  SteeringScales for_output() const { return policy != SteeringPolicy::kOff ? scales : SteeringScales{}; }
};

inline constexpr int32_t kUnlimitedTokens = std::numeric_limits<int32_t>::max();

// A function that the model may call. Its parameters are a JSON schema.
struct ToolSignature {
  std::string name;
  std::string parameters;
  bool strict = false;  // arguments that do not fit the schema are impossible
};

enum class ToolUse : uint8_t {
  kFree,      // the model decides
  kRequired,  // at least one call, of any of the tools
  kNamed,     // a call of OutputRules::tool_name
};

// What the answer must be like, whatever the model would write.
struct OutputRules {
  std::vector<ToolSignature> tools;  // those declared, where a rule needs them
  ToolUse tool_use = ToolUse::kFree;
  std::string tool_name;
  bool parallel_calls = true;                       // false: at most one call
  std::string json_schema;                          // of the whole text of the answer; empty: free text
  int32_t max_reasoning_tokens = kUnlimitedTokens;  // then the reasoning is closed
};

// How tokens become events.
struct OutputSettings {
  bool starts_in_thinking = false;
  bool tools_enabled = false;
  bool follows_tool_results = false;  // the prompt holds some: this output may be the final answer
  std::vector<std::string> stop_strings;
  std::string call_id_prefix = "call_";  // of the ids that the server gives to tool calls
  OutputRules rules;
  // No parsing: the bytes of every token are text; only the end-of-sentence token, a stop string and max_tokens end the
  // output.
  bool raw_text = false;
};

// Receives the events of one request. Called on the engine thread: must return quickly and must not call back.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on_events(OutputEvents events) = 0;
};

struct GenerateRequest {
  std::vector<int32_t> prompt_tokens;  // at least one
  OutputSettings output;
  SamplingParams sampling;
  int32_t max_tokens = kUnlimitedTokens;  // the context is a limit in any case; 0 computes the prompt only
  // The answer begins with these: computed as if they had been sampled. For measurements and tests.
  std::vector<int32_t> forced_tokens;
  std::string client;           // whose it is: clients take turns; the empty name is one like any other
  int32_t n_top_logprobs = -1;  // per token: alternatives beside the chosen one; -1: no TokenLogprobs events
  // output.rules, compiled: Engine::bind_rules(). Null where nothing is bound.
  std::shared_ptr<AnswerGrammar> grammar;
  std::optional<SteeringSettings> steering;   // default: the engine's
  std::shared_ptr<EventSink> sink;            // not null
  std::shared_ptr<std::atomic<bool>> cancel;  // null, or: true ends the request within one step, wherever it stands
};

}  // namespace ds4
