// scripted_server SCRIPT.json: the whole server but the model's numbers. Requests go through the real routes, dialects,
// renderer, tokenizer, scheduler, KV cache, session store, output parser and replay map; only what the model writes is
// given by the script, token by token as the tokenizer cuts it, and no logits are computed. Prints one JSON line for
// {"port"} when it listens, and one for the end of every request. Ends when its standard input does.
//
// SCRIPT: {"ctx_tokens": 8192, "step_delay_ms": 1, "report_prompts": 0, "rules": [{"when": {...}, "think": "...",
// "text": "..."}]}. With report_prompts the line of a request has its prompt as the model gets it: texts, and control
// tokens as {"control": "..."}; its ids; and the ids of what the model will write. The first rule applies whose
// conditions all hold: "user" and "tool", text in the last message of that role (and it is the last message); "system",
// text in any system message; "offers", the name of a declared tool. "think" is written when the prompt opens the
// reasoning. "text" may spell control tokens; "repeat" says how often it is written.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <thread>
#include <utility>

#include "base/log.h"
#include "engine/empty_runner.h"
#include "engine/engine.h"
#include "server/engine_generator.h"
#include "server/http_server.h"
#include "server/routes.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

// Computes nothing; waits at steps that sample, so that an answer takes its time.
class ScriptedRunner final : public StepRunner {
 public:
  ScriptedRunner(const ForwardLimits& limits, int32_t n_vocab, int delay_ms)
      : empty_(limits, n_vocab), delay_(delay_ms) {}
  const ForwardLimits& limits() const override { return empty_.limits(); }

  Result<std::span<const float>> run(std::span<const SequenceInput> inputs) override {
    const bool samples =
        std::ranges::any_of(inputs, [](const SequenceInput& input) { return input.logits != LogitsWanted::kNone; });
    if (samples) std::this_thread::sleep_for(delay_);
    return empty_.run(inputs);
  }

 private:
  EmptyRunner empty_;
  std::chrono::milliseconds delay_;
};

void print_line(const Json& line) {
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

const char* reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "";
}

// Says how each request ended; the client's side of a cancelled one tells nothing.
class ReportingSink final : public EventSink {
 public:
  ReportingSink(std::shared_ptr<EventSink> inner, Json details)
      : inner_(std::move(inner)), details_(std::move(details)) {}

  void on_events(OutputEvents events) override {
    for (const OutputEvent& event : events) {
      if (const auto* finished = std::get_if<Finished>(&event)) {
        Json line = {{"finished", reason_name(finished->reason)},
                     {"prompt_tokens", finished->usage.prompt_tokens},
                     {"cached_tokens", finished->usage.cached_tokens},
                     {"completion_tokens", finished->usage.completion_tokens}};
        line.update(details_);
        print_line(line);
      } else if (const auto* failed = std::get_if<Failed>(&event)) {
        print_line({{"finished", "failed"}, {"message", failed->error.message}});
      }
    }
    inner_->on_events(std::move(events));
  }

 private:
  const std::shared_ptr<EventSink> inner_;
  const Json details_;
};

// What the tokens spell, not what was rendered: a text that became a control token shows.
Json spelt_out(std::span<const int32_t> tokens, const Tokenizer& tokenizer) {
  Json items = Json::array();
  std::string text;
  const auto flush = [&items, &text] {
    if (!text.empty()) items.push_back(std::exchange(text, {}));
  };
  for (const int32_t token : tokens) {
    if (tokenizer.is_added(token)) {
      flush();
      items.push_back({{"control", tokenizer.token_text(token)}});
    } else {
      text += tokenizer.token_bytes(token);
    }
  }
  flush();
  return items;
}

class Script {
 public:
  explicit Script(Json script) : script_(std::move(script)) {}

  int integer(const char* key, int otherwise) const { return script_.value(key, otherwise); }

  // What the model writes next.
  std::string answer(const Conversation& conversation, bool thinks) const {
    for (const Json& rule : script_.at("rules")) {
      if (!applies(rule.at("when"), conversation)) continue;
      std::string text = thinks ? rule.value("think", std::string()) + "</think>" : std::string();
      for (int i = 0; i < rule.value("repeat", 1); ++i) text += rule.at("text").get<std::string>();
      return text;
    }
    return thinks ? "</think>No rule applies." : "No rule applies.";
  }

 private:
  static bool holds(const std::string& text, const Json& piece) {
    return text.find(piece.get_ref<const std::string&>()) != std::string::npos;
  }

  static std::string text_of(const Message& message) {
    std::string text = message.content;
    for (const ContentPart& part : message.parts) text += part.text;
    return text;
  }

  static bool applies(const Json& when, const Conversation& conversation) {
    // Since the last answer: reminders of clients may stand among the words of the user.
    std::string system;
    std::string user;
    std::string tool;
    const std::string offered = when.value("offers", std::string());
    bool offers = offered.empty();
    for (const Message& message : conversation.messages) {
      if (message.role == Role::kAssistant) user = tool = "";
      if (message.role == Role::kUser) user += text_of(message);
      if (message.role == Role::kTool) tool += text_of(message);
      if (message.role == Role::kSystem || message.role == Role::kDeveloper) system += text_of(message);
      for (const std::string& json : message.tools) {
        const Json function = Json::parse(json, nullptr, false);
        offers = offers || (function.is_object() && function.value("name", std::string()) == offered);
      }
    }
    if (!offers) return false;
    if (when.contains("system") && !holds(system, when.at("system"))) return false;
    if (when.contains("user") && (!tool.empty() || !holds(user, when.at("user")))) return false;
    return !when.contains("tool") || holds(tool, when.at("tool"));
  }

  Json script_;
};

class ScriptedGenerator final : public EngineGenerator {
 public:
  ScriptedGenerator(Engine& engine, const Script& script)
      : EngineGenerator(engine, {}), tokenizer_(*engine.tokenizer()), script_(script) {}

  Result<GenerateRequest> prepare(const Conversation& conversation, const RenderOptions& options) const override {
    GenerateRequest request = TRY(EngineGenerator::prepare(conversation, options));
    request.forced_tokens =
        tokenizer_.encode_with_special(script_.answer(conversation, request.output.starts_in_thinking));
    request.forced_tokens.push_back(tokenizer_.eos_id());
    return request;
  }

  Result<void> submit(GenerateRequest request) override {
    Json details = Json::object();
    if (script_.integer("report_prompts", 0) != 0) {
      details = {{"prompt", spelt_out(request.prompt_tokens, tokenizer_)},
                 {"prompt_ids", request.prompt_tokens},
                 {"written_ids", request.forced_tokens}};
    }
    request.sink = std::make_shared<ReportingSink>(std::move(request.sink), std::move(details));
    return EngineGenerator::submit(std::move(request));
  }

 private:
  const Tokenizer& tokenizer_;
  const Script& script_;
};

Result<void> serve(const Script& script) {
  EngineOptions options;
  options.model_path = DS4_MODEL;
  options.ctx_tokens = script.integer("ctx_tokens", 8192);
  const int delay_ms = script.integer("step_delay_ms", 0);
  options.make_runner = [&](const ForwardLimits& limits, const Hyperparams& hyperparams) {
    return std::make_unique<ScriptedRunner>(limits, hyperparams.n_vocab, delay_ms);
  };
  const std::unique_ptr<Engine> engine = TRY(Engine::load(options));
  ScriptedGenerator generator(*engine, script);
  const Routes routes(generator);
  const std::unique_ptr<HttpServer> server = TRY(HttpServer::start(
      {.host = "127.0.0.1", .port = 0}, [&routes](HttpRequest request, const std::shared_ptr<Responder>& responder) {
        routes.handle(std::move(request), responder);
      }));
  print_line({{"port", server->port()}, {"model", generator.model().id}});
  while (std::getchar() != EOF) {
  }
  server->stop(0);
  generator.stop();
  return {};
}

int run(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: scripted_server SCRIPT.json\n");
    return 2;
  }
  std::ifstream file(argv[1]);
  Json json = Json::parse(std::string(std::istreambuf_iterator<char>(file), {}), nullptr, false);
  if (!json.is_object() || !json.contains("rules")) {
    fmt::print(stderr, "{}: expected a JSON object with rules\n", argv[1]);
    return 1;
  }
  const Script script(std::move(json));
  if (const Result<void> level = set_log_level_from_environment(); !level.ok()) return 2;
  const Result<void> served = serve(script);
  if (!served.ok()) fmt::print(stderr, "scripted_server: {}\n", served.error().message);
  return served.ok() ? 0 : 1;
}

}  // namespace
}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
