// ds4-bench: how fast a model runs, and how near that is to what the machine can do. docs/bench.md explains the
// figures. `ds4-bench agent` measures instead what is reused of conversations. Exit status: 0 done, 1 failed, 2 wrong
// usage.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/file.h"
#include "quant/recipe.h"
#include "tools/bench/agent.h"
#include "tools/bench/bench.h"
#include "tools/common/options.h"

namespace ds4 {

namespace {

constexpr std::string_view kProgram = "ds4-bench";
constexpr int32_t kMaxTokens = 16 << 20;
constexpr int32_t kMaxSequences = 1024;

void add_model_group(CLI::App& app, SubjectOptions& subject) {
  add_model_options(app, subject.engine);
  app.option_defaults()->group("Model");
  app.add_option("--synthetic", subject.synthetic,
                 "random weights in memory instead of a file: flash, flash:N (layers), mini")
      ->take_last()
      ->type_name("SHAPE");
  app.add_option("--recipe", subject.recipe, "types of its tensors, as in ds4-gguf")
      ->take_last()
      ->capture_default_str();
  app.add_option("--type", subject.type_overrides, "PATTERN=TYPE: types of single tensors; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--isa", subject.isa, "kernels of this instruction set (the best that the processor has)")
      ->take_last()
      ->type_name("NAME");
  app.option_defaults()->group("Options");
}

void add_bench_model_group(CLI::App& app, BenchOptions& options) {
  add_model_group(app, options.subject);
  // The shared options refuse this one by name; here it has a meaning.
  app.remove_option(app.get_option("--warm-weights"));
  app.option_defaults()->group("Model");
  app.add_flag("--warm-weights", options.warm_weights, "read every weight before anything is measured");
  app.add_option("--save", options.subject.save_path, "also write the model as GGUF")->take_last()->type_name("FILE");
  app.option_defaults()->group("Options");
}

void add_measure_group(CLI::App& app, BenchOptions& options) {
  app.option_defaults()->group("Prompts and decoding (128,2048 and 1 when nothing is asked for)");
  app.add_option("--prefill", options.prefill_lengths, "prompts of these lengths")
      ->delimiter(',')
      ->check(CLI::Range(1, kMaxTokens))
      ->type_name("N,...");
  app.add_option("--sequences", options.sequence_counts, "decode with so many sequences at once")
      ->delimiter(',')
      ->check(CLI::Range(1, kMaxSequences))
      ->type_name("N,...");
  add_integer_option(app, "--decode-ctx", options.decode_ctx, {1, kMaxTokens},
                     "tokens before the first decoded one (128)");
  app.add_flag("--fill-kv", options.fill_kv,
               "fill the context before decoding with copies of its first KV rows instead of computing it");
  add_integer_option(app, "-n,--tokens,--gen-tokens", options.gen_tokens, {0, kMaxTokens},
                     "tokens to decode, per sequence or frontier (128)");
  add_integer_option(app, "--repeat", options.repeat, {1, 1000}, "measurements of each kind (3; sweep: 1)");
  add_integer_option(app, "--warmup", options.warmup, {0, 1000}, "runs before them that do not count (1)");
  add_integer_option(app, "--prefill-chunk", options.chunk_tokens, {1, 1 << 16},
                     fmt::format("prompt tokens of one step ({})", options.chunk_tokens));
  app.add_flag("--profile-ops", options.profile_ops, "also show the time of every op");
  app.add_flag("--no-limits", options.no_limits, "do not measure what the machine can do");
  app.option_defaults()->group("Options");
}

void add_sweep_group(CLI::App& app, SweepOptions& sweep) {
  app.option_defaults()->group("Sweep over the context");
  app.add_option("--prompt-file", sweep.prompt_file, "text to run through, as it is")->take_last()->type_name("FILE");
  app.add_option("--chat-prompt-file", sweep.chat_prompt_file, "text to run through, as a user's message")
      ->take_last()
      ->type_name("FILE");
  app.add_flag("--random-prompt", sweep.random_prompt, "random tokens instead");
  app.add_option("--system", sweep.system, "system message of the chat prompt; also -sys")
      ->take_last()
      ->type_name("TEXT");
  add_integer_option(app, "--ctx-start", sweep.ctx_start, {1, kMaxTokens}, "first frontier (2048)");
  add_integer_option(app, "--ctx-max", sweep.ctx_max, {1, kMaxTokens}, "last frontier (32768)");
  add_integer_option(app, "--ctx-alloc", sweep.ctx_alloc, {1, kMaxTokens}, "context to allocate (what is needed)");
  add_integer_option(app, "--step-incr", sweep.step_incr, {1, kMaxTokens}, "from one frontier to the next (2048)");
  app.add_option("--step-mul", sweep.step_mul, "or by this factor, where it is above 1 (1)")
      ->take_last()
      ->check(CLI::Range(1.0, 1e6))
      ->type_name("X");
  app.add_option("--csv", sweep.csv_path, "where the table goes (stdout)")->take_last()->type_name("FILE");
  app.add_option("--dump-frontier-logits-dir", sweep.logits_dir, "write the logits at every frontier there")
      ->take_last()
      ->type_name("FOLDER");
  app.option_defaults()->group("Options");
}

void add_conversation_group(CLI::App& app, AgentOptions& options) {
  WorkloadOptions& workload = options.workload;
  app.option_defaults()->group("Conversations");
  app.add_option_function<std::vector<std::string>>(
         "--agent",
         [&options](const std::vector<std::string>& names) {
           options.kinds.clear();
           for (const std::string& name : names) {
             const std::optional<AgentKind> kind = agent_kind_from_name(name);
             if (!kind)
               throw CLI::ValidationError("--agent", "expected claude-code, codex or chat, found '" + name + "'");
             options.kinds.push_back(*kind);
           }
         },
         "what the clients are, in turn (claude-code): claude-code, codex, chat")
      ->delimiter(',')
      ->trigger_on_parse()
      ->type_name("NAME,...");
  add_integer_option(app, "--clients", options.n_clients, {1, kMaxSequences}, "conversations at once (3)");
  add_integer_option(app, "--turns", workload.turns, {1, kMaxTokens}, "answers in each (40)");
  add_integer_option(app, "--target-tokens", workload.target_tokens, {1, kMaxTokens}, "in its last prompt (60000)");
  app.add_option("--scale", workload.scale, "of system prompts, tools and answers (1)")
      ->take_last()
      ->check(CLI::Range(0.001, 100.0))
      ->type_name("X");
  add_integer_option(app, "--stagger", options.stagger_turns, {0, kMaxTokens},
                     "turns of each before the next begins (0: all begin at once)");
  add_integer_option(app, "--user-every", workload.user_every, {1, kMaxTokens},
                     "turns between messages of the user (8)");
  app.add_flag_callback(
      "--no-titles", [&workload] { workload.titles = false; }, "no title request beside each of them");
  add_integer_option(app, "--sub-agents", workload.n_sub_agents, {0, 64}, "started at once by each, in one turn (0)");
  add_integer_option(app, "--edit-turn", workload.edit_turn, {0, kMaxTokens},
                     "a note appears in the middle of the history before this turn (0: never)");
  app.add_flag("--keep-volatile-text", options.keep_volatile, "keep the line that Claude Code puts in front");
  app.add_flag("--no-replay", options.no_replay, "tool calls come back in the canonical form only");
  add_integer_option(app, "--restart-every", options.restart_every, {0, kMaxTokens},
                     "turns between restarts (0: none)");
  add_integer_option(app, "--rest-every", options.rest_every, {0, kMaxTokens}, "turns between pauses (0: none)");
  app.add_option("--recut", options.sampled.recut_share, "share of answered tokens that are cut in two (0)")
      ->take_last()
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("X");
  app.add_flag("--compact-json", options.sampled.compact_json, "answers write JSON without spaces");
  app.add_option("--workload-seed", workload.seed, "of all texts (1)")->take_last()->type_name("N");
  app.option_defaults()->group("Options");
}

void add_agent_command(CLI::App& app, AgentOptions& options) {
  CLI::App& agent = *app.add_subcommand("agent", "Replays conversations of coding agents and reports what is reused");
  add_model_group(agent, options.subject);
  add_kv_options(agent, options.subject.engine);
  agent.add_flag("--no-compute", options.no_compute, "run no model: policy, bytes and files only, at any shape");
  add_integer_option(agent, "--parallel", options.subject.engine.n_slots, {1, kMaxSequences}, "sequences at once (4)");
  add_conversation_group(agent, options);
  add_integer_option(agent, "--restore-tokens", options.restore_tokens, {0, kMaxTokens},
                     "instead: how fast a checkpoint of so many tokens comes back from disk");
  agent.add_option("--json", options.json_path, "everything, request by request; - is stdout")
      ->take_last()
      ->type_name("FILE");
  agent.add_option("--csv", options.csv_path, "a line per request; - is stdout")->take_last()->type_name("FILE");
}

std::string find_conflict(const AgentOptions& options) {
  const bool has_both = !options.subject.synthetic.empty() && !options.subject.engine.model_path.empty();
  if (has_both && !options.no_compute) return "expected one of --model and --synthetic, found both";
  if (options.restart_every > 0 && options.subject.engine.kv_disk_dir.empty())
    return "--restart-every needs --kv-disk-dir";
  if (options.restore_tokens > 0 && options.subject.engine.kv_disk_dir.empty())
    return "--restore-tokens needs --kv-disk-dir";
  return {};
}

int run_agent(AgentOptions& options, const Clock& clock) {
  if (const std::string conflict = find_conflict(options); !conflict.empty())
    return report_usage_error(kProgram, conflict);
  if (options.subject.engine.ctx_tokens == 0) {
    constexpr int32_t kRoomTokens = 8192;
    // So that nothing is summed up on the way to the target.
    options.subject.engine.ctx_tokens = options.workload.target_tokens / 4 * 5 + kRoomTokens;
  }
  options.workload.max_prompt_tokens = options.subject.engine.ctx_tokens;
  const Result<void> result = run_agent_bench(options, clock);
  return result.ok() ? 0 : report_error(kProgram, result.error());
}

// What single options cannot say about each other: the complaint, or nothing.
std::string find_conflict(const BenchOptions& options) {
  const SweepOptions& sweep = options.sweep;
  const int n_prompts = !sweep.prompt_file.empty() + !sweep.chat_prompt_file.empty() + sweep.random_prompt;
  if (n_prompts > 1) return "expected one of --prompt-file, --chat-prompt-file and --random-prompt, found several";
  if (sweep.is_wanted() && sweep.ctx_start > sweep.ctx_max) {
    return fmt::format("--ctx-start: expected at most --ctx-max ({}), found {}", sweep.ctx_max, sweep.ctx_start);
  }
  if (sweep.ctx_alloc > 0 && sweep.ctx_alloc <= sweep.ctx_max + options.gen_tokens) {
    return fmt::format("--ctx-alloc: expected more than --ctx-max and --gen-tokens together ({}), found {}",
                       sweep.ctx_max + options.gen_tokens, sweep.ctx_alloc);
  }
  if (!options.sequence_counts.empty() && options.gen_tokens == 0) return "--sequences needs --gen-tokens above 0";
  if (!options.subject.synthetic.empty() && !options.subject.engine.model_path.empty()) {
    return "expected one of --model and --synthetic, found both";
  }
  if (options.subject.synthetic.empty() && !options.subject.save_path.empty()) return "--save needs --synthetic";
  if (!options.subject.isa.empty() && options.subject.engine.device_kind != DeviceKind::kCpu)
    return "--isa chooses kernels of the CPU: it does not go with --cuda";
  return {};
}

int run(int argc, char** argv) {
  const MonotonicClock clock;
  const int64_t start_us = clock.now_us();
  CLI::App app("Measures how fast a model runs, and how near that is to the limits of the machine.",
               std::string(kProgram));
  BenchOptions options;
  add_bench_model_group(app, options);
  add_measure_group(app, options);
  add_sweep_group(app, options.sweep);
  app.add_option("--json", options.json_path, "all results with machine and model; - is stdout")
      ->take_last()
      ->type_name("FILE");
  app.add_option("--svg", options.svg_path, "a chart of them")->take_last()->type_name("FILE");
  AgentOptions agent;
  add_agent_command(app, agent);
  if (const auto exit_code = parse_command_line(app, argc, argv)) return *exit_code;
  if (app.got_subcommand("agent")) return run_agent(agent, clock);
  const std::string conflict = find_conflict(options);
  if (!conflict.empty()) return report_usage_error(kProgram, conflict);
  if (!options.sweep.is_wanted() && options.prefill_lengths.empty() && options.sequence_counts.empty()) {
    options.prefill_lengths = {128, 2048};
    options.sequence_counts = {1};
  }
  const Result<void> result = run_bench(options, clock, start_us);
  return result.ok() ? 0 : report_error(kProgram, result.error());
}

}  // namespace

}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
