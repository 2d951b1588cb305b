// The program ds4: one answer to a prompt, a prompt loop, or a dump for other programs.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <utility>

#include "base/file.h"
#include "tools/cli/dump.h"
#include "tools/cli/repl.h"
#include "tools/cli/session.h"
#include "tools/common/model_path.h"
#include "tools/common/options.h"
#include "tools/common/progress_line.h"

namespace ds4 {
namespace {

constexpr const char* kProgram = "ds4";
constexpr uint64_t kMaxPromptFileBytes = 64 << 20;
constexpr int32_t kMaxLogprobsTopK = 128;
constexpr int32_t kMaxChunkTokens = 65536;

struct Arguments {
  ChatOptions session;
  std::optional<std::string> prompt;
  std::string prompt_file;
  bool dump_tokens = false;
  LogprobsDump logprobs;
  LogitsDump logits;
};

void add_options(CLI::App& app, Arguments& arguments) {
  add_model_options(app, arguments.session.engine);
  add_sampling_options(app, arguments.session.sampling);
  add_thinking_options(app, arguments.session.thinking);
  app.option_defaults()->group("Prompt");
  app.add_option("-p,--prompt", arguments.prompt, "answer this and leave; without a prompt: prompt loop")
      ->take_last()
      ->type_name("TEXT");
  app.add_option("--prompt-file", arguments.prompt_file, "the same, from a file")->take_last()->type_name("FILE");
  app.add_option("--system", arguments.session.system, "system prompt, also -sys; an empty one removes it")
      ->take_last()
      ->type_name("TEXT");
  add_integer_option(app, "-n,--tokens", arguments.session.max_tokens, {1, INT32_MAX},
                     "most tokens of an answer (50000)");
  app.option_defaults()->group("Output for programs");
  app.add_flag("--dump-tokens", arguments.dump_tokens, "print the prompt's tokens; loads no model");
  app.add_option("--dump-logprobs", arguments.logprobs.output_path, "greedy answer with log-probabilities, as JSON")
      ->take_last()
      ->type_name("FILE");
  add_integer_option(app, "--logprobs-top-k", arguments.logprobs.top_k, {1, kMaxLogprobsTopK},
                     "alternatives per token (20)");
  app.add_option("--dump-logits", arguments.logits.output_path, "float32 logits of --token-ids")
      ->take_last()
      ->type_name("FILE");
  app.add_option("--token-ids", arguments.logits.token_ids_path, "JSON array of token ids")
      ->take_last()
      ->type_name("FILE");
  app.add_option("--positions", arguments.logits.positions_path, "JSON array of positions to write (all)")
      ->take_last()
      ->type_name("FILE");
  add_integer_option(app, "--chunk", arguments.session.engine.prefill_chunk_tokens, {1, kMaxChunkTokens},
                     "prompt tokens computed at once (256)");
}

std::optional<std::string> find_contradiction(const Arguments& arguments) {
  const bool has_prompt = arguments.prompt || !arguments.prompt_file.empty();
  const bool has_logits = !arguments.logits.output_path.empty();
  if (arguments.prompt && !arguments.prompt_file.empty()) return "--prompt and --prompt-file: give one of them";
  if (arguments.dump_tokens && !has_prompt) return "--dump-tokens needs --prompt or --prompt-file";
  if (!arguments.logprobs.output_path.empty() && !has_prompt) return "--dump-logprobs needs --prompt or --prompt-file";
  if (has_logits && has_prompt) return "--dump-logits takes --token-ids, not a prompt";
  if (has_logits != !arguments.logits.token_ids_path.empty()) return "--dump-logits and --token-ids need each other";
  if (!has_logits && !arguments.logits.positions_path.empty()) return "--positions needs --dump-logits";
  if (arguments.dump_tokens + !arguments.logprobs.output_path.empty() + has_logits > 1) {
    return "--dump-tokens, --dump-logprobs and --dump-logits: give one of them";
  }
  return std::nullopt;
}

Result<void> answer_once(Session& session, std::string prompt, const LogprobsDump& logprobs) {
  Conversation conversation = session.new_conversation();
  conversation.messages.push_back(make_message(Role::kUser, std::move(prompt)));
  if (!logprobs.output_path.empty()) {
    const GenerateRequest request = TRY(session.prepare(conversation));
    return dump_logprobs(session.engine(), request.prompt_tokens, logprobs);
  }
  const Answer answer = TRY(session.ask(conversation));
  if (answer.reason == FinishReason::kCancelled) return make_error(ErrorCode::kCancelled, "interrupted");
  return {};
}

Result<void> run(Arguments arguments) {
  EngineOptions& engine = arguments.session.engine;
  engine.model_path = TRY(resolve_model_path(engine.model_path));
  engine.load_progress = show_load_progress(kProgram);
  if (arguments.dump_tokens) return dump_tokens(engine.model_path, *arguments.prompt);
  if (!arguments.logits.output_path.empty()) return dump_logits(engine, arguments.logits);
  arguments.logprobs.max_tokens = arguments.session.max_tokens;
  Session session = TRY(Session::open(arguments.session));
  if (arguments.prompt) return answer_once(session, *std::move(arguments.prompt), arguments.logprobs);
  return run_repl(session);
}

}  // namespace
}  // namespace ds4

int main(int argc, char** argv) {
  ds4::Arguments arguments;
  arguments.session.engine.n_slots = 1;
  CLI::App app{"Answers prompts with a DeepSeek-V4 model.", ds4::kProgram};
  ds4::add_options(app, arguments);
  if (const std::optional<int> exit_code = ds4::parse_command_line(app, argc, argv)) return *exit_code;
  if (const std::optional<std::string> problem = ds4::find_contradiction(arguments)) {
    return ds4::report_usage_error(ds4::kProgram, *problem);
  }
  if (!arguments.prompt_file.empty()) {
    ds4::Result<std::string> text = ds4::read_file(arguments.prompt_file, ds4::kMaxPromptFileBytes);
    if (!text.ok()) return ds4::report_usage_error(ds4::kProgram, "--prompt-file: " + text.error().message);
    arguments.prompt = text.take_value();
  }
  const ds4::Result<void> done = ds4::run(std::move(arguments));
  return done.ok() ? 0 : ds4::report_error(ds4::kProgram, done.error());
}
