#pragma once

// The flags that all programs share, in groups: model, sampling, thinking. Each flag says in one line what it got and
// what it accepts; of repeated flags the last counts. Exit codes: 0 done, 1 failed while running, 2 wrong usage.
// CLI11 appears in options.cc and in the mains only. Main thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/message.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace CLI {
class App;
}

namespace ds4 {

inline constexpr int kExitRuntime = 1;
inline constexpr int kExitUsage = 2;

// The advice of the model's authors for maximum effort; below it --think-max means --think.
inline constexpr int32_t kThinkMaxCtxTokens = 393216;

struct ThinkingOptions {
  ThinkingMode mode = ThinkingMode::kThinking;
  ReasoningEffort effort = ReasoningEffort::kDefault;
};

struct IntegerRange {
  int64_t least;
  int64_t most;
};

// -m, -c, -t, --pin-threads, --backend, --cpu, --cuda, --device, --profile, --chat-format, --dir-steering-*; an empty
// model_path afterwards means "the default" (see tools/common/model_path.h), and the policy given is the default. Flags
// of other builds are known and refused by name.
void add_model_options(CLI::App& app, EngineOptions& options);
// --kv-ram-mb, --no-kv-reuse, --kv-disk-dir, --kv-disk-space-mb, --kv-cache-*, --prefill-chunk.
void add_kv_options(CLI::App& app, EngineOptions& options);
// --temp, --top-p, --min-p, --top-k, --seed.
void add_sampling_options(CLI::App& app, SamplingParams& params);
// --think, --think-max, --nothink.
void add_thinking_options(CLI::App& app, ThinkingOptions& options);
// As --dir-steering-policy takes it.
std::string_view steering_policy_name(SteeringPolicy policy);
// One flag with an integer; `names` as CLI11 writes them ("-n,--tokens").
void add_integer_option(CLI::App& app, const std::string& names, int32_t& value, IntegerRange range,
                        const std::string& help);

// Nothing: go on. Else the exit code of a program that has printed its help or one line about what is wrong.
std::optional<int> parse_command_line(CLI::App& app, int argc, const char* const* argv);

// Prints "program: message" to stderr. The exit code that belongs to the error.
int report_error(std::string_view program, const Error& error);
int report_usage_error(std::string_view program, std::string_view message);

}  // namespace ds4
