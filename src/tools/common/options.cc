#include "tools/common/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

#include "tools/common/backend_choice.h"

namespace ds4 {
namespace {

constexpr int32_t kMaxThreads = 1024;
constexpr int32_t kMaxDevice = 255;
constexpr int32_t kMaxCtxTokens = 16 << 20;

// Known from other builds of this engine and from the program it is compatible with.
struct AbsentOption {
  const char* names;
  bool takes_value;
};
constexpr std::array<AbsentOption, 8> kAbsentOptions{{
    {"--metal", false},
    {"--quality", false},
    {"--warm-weights", false},
    {"--mtp", true},
    {"--mtp-draft", true},
    {"--mtp-margin", true},
    {"--mt,--mpp", true},
    {"--power", true},
}};

template <class T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// CLI11 reports a thrown ValidationError as one line that begins with the option's name.
[[noreturn]] void refuse(const std::string& name, const std::string& expected, const std::string& found) {
  throw CLI::ValidationError(name, fmt::format("expected {}, found '{}'", expected, found));
}

std::string last_name(const std::string& names) { return names.substr(names.rfind(',') + 1); }

CLI::Option* add_text_function(CLI::App& app, const std::string& names, const std::string& help,
                               const std::function<void(const std::string&)>& use) {
  return app.add_option_function<std::string>(names, use, help)->take_last()->trigger_on_parse();
}

void add_number_option(CLI::App& app, const std::string& name, float& value, float most, const std::string& help) {
  add_text_function(app, name, fmt::format("{} ({})", help, value), [name, &value, most](const std::string& text) {
    const std::optional<float> number = parse_number<float>(text);
    if (!number || !std::isfinite(*number) || *number < 0 || *number > most) {
      refuse(name, fmt::format("a number from 0 to {}", most), text);
    }
    value = *number;
  })->type_name("X");
}

template <class T>
void add_choice_option(CLI::App& app, const std::string& name, const std::string& help,
                       const std::vector<std::pair<std::string, T>>& choices, const std::function<void(T)>& use) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  const auto choose = [name, choices, names, use](const std::string& text) {
    for (const auto& [choice, value] : choices) {
      if (choice == text) return use(value);
    }
    refuse(name, fmt::format("{}", fmt::join(names, " or ")), text);
  };
  add_text_function(app, name, help, choose)->type_name(fmt::format("{}", fmt::join(names, "|")));
}

// The names that help shows, then others that mean the same.
constexpr std::array<std::pair<std::string_view, SteeringPolicy>, 8> kPolicies{{
    {"always", SteeringPolicy::kAlways},
    {"decoding", SteeringPolicy::kDecoding},
    {"final-answer", SteeringPolicy::kFinalAnswer},
    {"off", SteeringPolicy::kOff},
    {"decode", SteeringPolicy::kDecoding},
    {"final", SteeringPolicy::kFinalAnswer},
    {"tool-safe", SteeringPolicy::kFinalAnswer},
    {"none", SteeringPolicy::kOff},
}};

void add_scale_option(CLI::App& app, const std::string& name, std::optional<float>& value, const std::string& help) {
  add_text_function(app, name, help, [name, &value](const std::string& text) {
    const std::optional<float> number = parse_number<float>(text);
    if (!number || !(std::fabs(*number) <= kMaxSteeringScale)) {
      refuse(name, fmt::format("a number from {} to {}", -kMaxSteeringScale, kMaxSteeringScale), text);
    }
    value = number;
  })->type_name("X");
}

void add_steering_options(CLI::App& app, SteeringOptions& options) {
  app.option_defaults()->group("Steering");
  app.add_option("--dir-steering-file", options.file, "directions, raw F32 [layers, width]")
      ->take_last()
      ->type_name("FILE");
  add_scale_option(app, "--dir-steering-ffn", options.ffn,
                   "scale on expert outputs; positive removes the direction (1 if only a file is given, else 0)");
  add_scale_option(app, "--dir-steering-attn", options.attn, "scale on attention outputs (0)");
  const auto choose = [&options](const std::string& text) {
    const auto found = std::ranges::find(kPolicies, text, &std::pair<std::string_view, SteeringPolicy>::first);
    if (found == kPolicies.end()) refuse("--dir-steering-policy", "always, decoding, final-answer or off", text);
    options.policy = found->second;
  };
  add_text_function(app, "--dir-steering-policy",
                    fmt::format("which tokens are steered ({})", steering_policy_name(options.policy)), choose)
      ->type_name("always|decoding|final-answer|off");
  app.option_defaults()->group("Model");
}

[[noreturn]] void refuse_absent(const std::string& name, std::string_view available) {
  throw CLI::ValidationError(name, fmt::format("not in this build{}", available));
}

void add_absent_options(CLI::App& app) {
  for (const AbsentOption& option : kAbsentOptions) {
    const std::string names = option.names;
    const auto refuse_it = [name = last_name(names)] { refuse_absent(name, ""); };
    if (option.takes_value) {
      add_text_function(app, names, "", [refuse_it](const std::string&) { refuse_it(); })->group("");
    } else {
      app.add_flag_callback(names, refuse_it)->trigger_on_parse()->group("");
    }
  }
}

void choose_backend(EngineOptions& options, DeviceKind kind, const std::string& option) {
  if (const Result<void> available = check_backend_available(kind); !available.ok())
    throw CLI::ValidationError(option, available.error().message);
  options.device_kind = kind;
}

void add_backend_options(CLI::App& app, EngineOptions& options) {
  options.make_backend = make_chosen_backend;
  add_text_function(app, "--backend", "where the model runs (cpu)", [&options](const std::string& name) {
    if (name == "metal") refuse_absent("--backend metal", "; available: " + available_backends());
    if (name != "cpu" && name != "cuda") refuse("--backend", "cpu or cuda", name);
    choose_backend(options, name == "cuda" ? DeviceKind::kCuda : DeviceKind::kCpu, "--backend " + name);
  })->type_name("cpu|cuda");
  app.add_flag_callback(
         "--cuda", [&options] { choose_backend(options, DeviceKind::kCuda, "--cuda"); }, "same as --backend cuda")
      ->trigger_on_parse();
  app.add_flag_callback(
         "--cpu", [&options] { options.device_kind = DeviceKind::kCpu; }, "same as --backend cpu")
      ->trigger_on_parse();
  add_text_function(app, "--experts-on-device", "most memory of the device for routed experts, in GiB (what fits)",
                    [&options](const std::string& text) {
                      const std::optional<double> gibibytes = parse_number<double>(text);
                      if (!gibibytes || !(*gibibytes >= 0.0) || *gibibytes > 1e6)
                        refuse("--experts-on-device", "a number of GiB from 0", text);
                      options.expert_device_bytes = static_cast<uint64_t>(*gibibytes * 0x1p30);
                    })
      ->type_name("GiB");
  add_integer_option(app, "--device", options.device, {0, kMaxDevice}, "which CUDA device, as CUDA counts them (0)");
}

}  // namespace

std::string_view steering_policy_name(SteeringPolicy policy) {
  return std::ranges::find(kPolicies, policy, &std::pair<std::string_view, SteeringPolicy>::second)->first;
}

void add_integer_option(CLI::App& app, const std::string& names, int32_t& value, IntegerRange range,
                        const std::string& help) {
  add_text_function(app, names, help, [name = last_name(names), &value, range](const std::string& text) {
    const std::optional<int32_t> number = parse_number<int32_t>(text);
    if (!number || *number < range.least || *number > range.most) {
      refuse(name, fmt::format("an integer from {} to {}", range.least, range.most), text);
    }
    value = *number;
  })->type_name("N");
}

void add_model_options(CLI::App& app, EngineOptions& options) {
  app.option_defaults()->group("Model");
  app.add_option("-m,--model", options.model_path, "GGUF file (ds4flash.gguf here, else the embedded small model)")
      ->take_last()
      ->type_name("FILE");
  add_integer_option(app, "-c,--ctx", options.ctx_tokens, {1, kMaxCtxTokens},
                     fmt::format("context in tokens ({}, or what the model allows)", kDefaultCtxTokens));
  add_integer_option(app, "-t,--threads", options.n_threads, {1, kMaxThreads}, "CPU threads (one per core)");
  app.add_flag("--pin-threads", options.pin_threads, "keep each CPU thread on a processor of its own");
  add_backend_options(app, options);
  add_choice_option<NumericProfile>(app, "--profile", "rounding as the model was published, or none (canonical)",
                                    {{"canonical", NumericProfile::kCanonical}, {"exact", NumericProfile::kExact}},
                                    [&options](NumericProfile profile) { options.profile = profile; });
  add_choice_option<ChatFormat>(app, "--chat-format",
                                "revision of the prompt format (what the file says, else preview)",
                                {{"preview", ChatFormat::kPreview}, {"0731", ChatFormat::k0731}},
                                [&options](ChatFormat format) { options.chat_format = format; });
  add_steering_options(app, options.steering);
  add_absent_options(app);
  app.option_defaults()->group("Options");
}

void add_kv_options(CLI::App& app, EngineOptions& options) {
  app.option_defaults()->group("Memory of conversations");
  const auto add_mebibytes = [&app](const std::string& name, const std::string& help, auto& value) {
    add_text_function(app, name, help, [name, &value](const std::string& text) {
      const std::optional<int32_t> number = parse_number<int32_t>(text);
      if (!number || *number < 1) refuse(name, "a number of MiB from 1", text);
      value = static_cast<uint64_t>(*number) << 20;
    })->type_name("MiB");
  };
  add_mebibytes("--kv-ram-mb", "KV pages of running and remembered conversations (by context, slots and memory)",
                options.kv_bytes);
  app.add_flag_callback(
      "--no-kv-reuse", [&options] { options.spacing.prompt_tokens = 0; },
      "remember nothing: every prompt is computed from its start");
  app.add_option("--kv-disk-dir", options.kv_disk_dir, "directory where conversations outlive the program (none)")
      ->take_last()
      ->type_name("DIR");
  add_mebibytes("--kv-disk-space-mb", "most bytes there (4096)", options.kv_disk_bytes);
  add_integer_option(app, "--kv-cache-min-tokens", options.sessions.disk_least_tokens, {1, kMaxCtxTokens},
                     "least tokens after the last checkpoint on disk that are worth another (512)");
  add_integer_option(app, "--kv-cache-continued-interval-tokens", options.sessions.disk_interval_tokens,
                     {1, kMaxCtxTokens}, "between checkpoints of one conversation on disk (16384)");
  // Of the program this one is compatible with, where they tune what is not done here.
  for (const char* name :
       {"--kv-cache-cold-max-tokens", "--kv-cache-boundary-trim-tokens", "--kv-cache-boundary-align-tokens"})
    add_text_function(app, name, "", [](const std::string&) {})->group("");
  app.add_flag_callback("--kv-cache-reject-different-quant", [] {})->group("");
  add_integer_option(app, "--prefill-chunk", options.prefill_chunk_tokens, {1, 1 << 16},
                     fmt::format("most prompt tokens of one step ({})", options.prefill_chunk_tokens));
  add_integer_option(app, "--mixed-prefill-quantum", options.mixed_chunk_tokens, {1, 1 << 16},
                     fmt::format("the same while answers are being written ({})", options.mixed_chunk_tokens));
  app.option_defaults()->group("Options");
}

void add_sampling_options(CLI::App& app, SamplingParams& params) {
  app.option_defaults()->group("Sampling");
  add_number_option(app, "--temp", params.temperature, 100, "temperature; 0 takes the most likely token");
  add_number_option(app, "--top-p", params.top_p, 1, "nucleus; 1 is off");
  add_number_option(app, "--min-p", params.min_p, 1, "floor relative to the most likely token; 0 is off");
  add_integer_option(app, "--top-k", params.top_k, {0, kMaxTopK}, "most likely tokens only; 0 is off (0)");
  add_text_function(app, "--seed", "seed of the random numbers (from the time)", [&params](const std::string& text) {
    const std::optional<uint64_t> seed = parse_number<uint64_t>(text);
    if (!seed || *seed == 0) refuse("--seed", fmt::format("an integer from 1 to {}", UINT64_MAX), text);
    params.seed = seed;
  })->type_name("N");
  app.option_defaults()->group("Options");
}

void add_thinking_options(CLI::App& app, ThinkingOptions& options) {
  app.option_defaults()->group("Thinking");
  const auto add = [&](const char* name, ThinkingOptions chosen, const std::string& help) {
    app.add_flag_callback(name, [&options, chosen] { options = chosen; }, help)->trigger_on_parse();
  };
  add("--think", {ThinkingMode::kThinking, ReasoningEffort::kDefault}, "reason before the answer (default)");
  add("--think-max", {ThinkingMode::kThinking, ReasoningEffort::kMax},
      fmt::format("reason with maximum effort; needs --ctx {}", kThinkMaxCtxTokens));
  add("--nothink", {ThinkingMode::kChat, ReasoningEffort::kDefault}, "answer at once");
  app.option_defaults()->group("Options");
}

std::optional<int> parse_command_line(CLI::App& app, int argc, const char* const* argv) {
  // -sys and -mt have the form of a one-letter flag with a value, which CLI11 would read them as.
  std::vector<std::string> arguments;
  for (int i = argc - 1; i >= 1; --i) {
    const std::string_view argument = argv[i];
    arguments.emplace_back(argument == "-sys" ? "--system" : argument == "-mt" ? "--mt" : argument);
  }
  try {
    app.parse(arguments);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::Error& error) {
    return report_usage_error(app.get_name(), error.what());
  }
  return std::nullopt;
}

int report_error(std::string_view program, const Error& error) {
  fmt::print(stderr, "{}: {}\n", program, error.message);
  return error_code_info(error.code).exit_code;
}

int report_usage_error(std::string_view program, std::string_view message) {
  fmt::print(stderr, "{}: {} (try {} --help)\n", program, message, program);
  return kExitUsage;
}

}  // namespace ds4
