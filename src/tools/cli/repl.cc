#include "tools/cli/repl.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "tools/cli/line_editor.h"

namespace ds4 {
namespace {

constexpr uint64_t kMaxPromptFileBytes = 16 << 20;

class Repl {
 public:
  explicit Repl(Session& session) : session_(session), conversation_(session.new_conversation()) {}

  Result<void> run() {
    LineEditor editor("ds4> ");
    while (!is_over_) {
      const std::optional<std::string> line = editor.read_line();
      if (!line) break;
      if (line->starts_with('/')) {
        TRY(run_command(*line));
      } else if (!line->empty()) {
        TRY(take_turn(*line));
      }
    }
    return {};
  }

 private:
  struct Command {
    std::string_view name;
    std::string_view argument;  // empty: takes none
    std::string_view help;
    Result<void> (Repl::*run)(std::string_view argument);
  };
  static constexpr std::array<Command, 8> commands() {
    return {{{"/help", "", "this list", &Repl::show_help},
             {"/think", "", "reason before each answer", &Repl::think},
             {"/nothink", "", "answer at once", &Repl::nothink},
             {"/think-max", "", "reason with maximum effort", &Repl::think_max},
             {"/ctx", "N", "change the context to N tokens", &Repl::resize_context},
             {"/read", "FILE", "take the contents of a file as the next turn", &Repl::read_prompt},
             {"/quit", "", "leave", &Repl::quit},
             {"/exit", "", "leave", &Repl::quit}}};
  }

  Result<void> run_command(std::string_view line) {
    const size_t end = line.find(' ');
    const std::string_view name = line.substr(0, end);
    std::string_view argument = end == std::string_view::npos ? std::string_view() : line.substr(end);
    argument.remove_prefix(std::min(argument.find_first_not_of(' '), argument.size()));
    argument.remove_suffix(argument.size() - (argument.find_last_not_of(' ') + 1));
    for (const Command& command : commands()) {
      if (command.name != name) continue;
      if (command.argument.empty() == argument.empty()) return (this->*command.run)(argument);
      const std::string usage = fmt::format("{}{}{}", name, command.argument.empty() ? "" : " ", command.argument);
      complain(fmt::format("usage: {}", usage));
      return {};
    }
    complain(fmt::format("{}: no such command; /help lists them", name));
    return {};
  }

  Result<void> show_help(std::string_view) {
    for (const Command& command : commands()) {
      fmt::print("{:<12}{}\n", fmt::format("{} {}", command.name, command.argument), command.help);
    }
    return {};
  }
  Result<void> think(std::string_view) { return set_thinking({ThinkingMode::kThinking, ReasoningEffort::kDefault}); }
  Result<void> nothink(std::string_view) { return set_thinking({ThinkingMode::kChat, ReasoningEffort::kDefault}); }
  Result<void> think_max(std::string_view) { return set_thinking({ThinkingMode::kThinking, ReasoningEffort::kMax}); }
  Result<void> set_thinking(const ThinkingOptions& thinking) {
    session_.set_thinking(thinking);
    return {};
  }

  Result<void> resize_context(std::string_view argument) {
    int32_t ctx_tokens = 0;
    const auto [end, failed] = std::from_chars(argument.data(), argument.data() + argument.size(), ctx_tokens);
    if (failed != std::errc() || end != argument.data() + argument.size() || ctx_tokens < 1) {
      complain(fmt::format("/ctx: expected a positive number of tokens, found '{}'", argument));
    } else if (const Result<void> resized = session_.resize_context(ctx_tokens); !resized.ok()) {
      complain(resized.error().message);
    }
    return {};
  }

  Result<void> read_prompt(std::string_view argument) {
    Result<std::string> text = read_file(std::string(argument), kMaxPromptFileBytes);
    if (text.ok()) return take_turn(text.take_value());
    complain(text.error().message);
    return {};
  }

  Result<void> quit(std::string_view) {
    is_over_ = true;
    return {};
  }

  Result<void> take_turn(std::string text) {
    conversation_.messages.push_back(make_message(Role::kUser, std::move(text)));
    Result<Answer> answer = session_.ask(conversation_);
    if (!answer.ok() && answer.error().code == ErrorCode::kIo) return answer.take_error();
    if (!answer.ok()) complain(answer.error().message);
    if (!answer.ok() || answer.value().usage.completion_tokens == 0) {
      conversation_.messages.pop_back();
      return {};
    }
    // On a terminal the answer has ended its line.
    const bool ends_line = isatty(STDOUT_FILENO) != 0 || answer.value().content.ends_with('\n');
    if (!ends_line) fmt::print("\n");
    conversation_.messages.push_back(make_message(Role::kAssistant, std::move(answer.value().content)));
    conversation_.messages.back().reasoning_content = std::move(answer.value().reasoning);
    return {};
  }

  static void complain(std::string_view message) { fmt::print(stderr, "ds4: {}\n", message); }

  Session& session_;
  Conversation conversation_;
  bool is_over_ = false;
};

}  // namespace

Result<void> run_repl(Session& session) { return Repl(session).run(); }

}  // namespace ds4
