// Rules, penalties and reasoning budgets in random schedules of a simulated engine: what a request answers beside
// others, after giving way and coming back, with neighbours that end or are cancelled, is token for token what it
// answers alone.

#include <gtest/gtest.h>

#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "base/rng.h"
#include "engine/engine.h"
#include "engine/engine_fixture.h"
#include "engine/rule_compiler.h"
#include "engine/simulated_runner.h"
#include "model/synthetic.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

constexpr int32_t kCtxTokens = 1100;
constexpr uint64_t kWorlds = 100;

constexpr const char* kPerson = R"({"type":"object","properties":{"name":{"type":"string","maxLength":40},)"
                                R"("age":{"type":"integer","minimum":0,"maximum":150},"ok":{"type":"boolean"}},)"
                                R"("required":["name","age","ok"],"additionalProperties":false})";
constexpr const char* kList =
    R"({"type":"array","items":{"type":"string","minLength":20,"maxLength":30},"minItems":30})";

const Tokenizer& tokenizer() {
  static const auto file = GgufFile::open(test::tiny_model_path()).take_value();
  static const std::unique_ptr<Tokenizer> loaded = load_tokenizer(*file).take_value();
  return *loaded;
}

struct WorldLimits {
  int32_t n_slots = 1;
  int32_t n_pages = 5;
  int32_t chunk = 64;
  uint64_t n_frontiers = 0;
};

// An engine without a model.
struct World {
  explicit World(const WorldLimits& limits) {
    backend = make_cpu_backend({.threads = 1});
    const Hyperparams hyperparams = synthetic_hyperparams(test::tiny_model_shape()).take_value();
    cache = KvCache::create(*backend, hyperparams,
                            {.n_slots = limits.n_slots, .ctx_tokens = kCtxTokens, .n_pages = limits.n_pages})
                .take_value();
    runner = std::make_unique<test::SimulatedRunner>(
        *cache, ForwardLimits{.batch_rows = limits.chunk + limits.n_slots, .logits_rows = limits.n_slots},
        tokenizer().n_vocab());
    sessions = std::make_unique<SessionStore>(
        *cache, nullptr,
        SessionOptions{.max_frontier_bytes = cache->layout().frontier_bytes * limits.n_frontiers, .min_tokens = 1});
    scheduler = std::make_unique<Scheduler>(
        *runner, *cache, &tokenizer(), sessions.get(),
        SchedulerOptions{.prefill_chunk_tokens = limits.chunk, .n_vocab = tokenizer().n_vocab(), .first_seed = 1});
  }

  std::unique_ptr<Backend> backend;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<test::SimulatedRunner> runner;
  std::unique_ptr<SessionStore> sessions;
  std::unique_ptr<Scheduler> scheduler;
};

// What a client sees but for the ids of calls and the times.
std::string seen_by_client(const test::RecordingSink& sink) {
  std::string seen = fmt::format("reasoning: {}\ntext: {}\n", sink.reasoning(), sink.text());
  for (const ToolCallBegin& begin : sink.all<ToolCallBegin>()) seen += fmt::format("call {}\n", begin.name);
  for (const ToolCallEnd& end : sink.all<ToolCallEnd>()) seen += fmt::format("arguments {}\n", end.arguments);
  if (const Finished* end = sink.last<Finished>(); end != nullptr) {
    seen += fmt::format("finish {}, {} tokens, {} of reasoning\n", static_cast<int>(end->reason),
                        end->usage.completion_tokens, end->usage.reasoning_tokens);
  }
  return seen;
}

struct Client {
  GenerateRequest request;  // without grammar, sink and cancel
  std::shared_ptr<test::RecordingSink> sink = std::make_shared<test::RecordingSink>();
  std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);
  int32_t cancel_step = -1;

  // Requests with equal rules share one compiled grammar.
  void submit(Scheduler& scheduler, RuleCompiler& compiler) const {
    GenerateRequest copy = request;
    copy.grammar = compiler.compile(request.output.rules, request.output.tools_enabled).take_value();
    copy.sink = sink;
    copy.cancel = cancel;
    scheduler.submit(std::move(copy));
  }
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : rng_(seed),
        n_slots_(between(2, 5)),
        world_({.n_slots = static_cast<int32_t>(n_slots_),
                .n_pages = static_cast<int32_t>(between(5, 4 + n_slots_)),
                .chunk = static_cast<int32_t>(between(1, 200)),
                .n_frontiers = between(0, 12)}) {}

  void run() {
    const uint64_t n_clients = between(3, 10);
    int32_t n_steps = 0;
    while (clients_.size() < n_clients || world_.scheduler->n_running() + world_.scheduler->n_waiting() > 0) {
      if (clients_.size() < n_clients && between(0, 3) == 0) submit(n_steps);
      for (const Client& client : clients_) {
        if (client.cancel_step == n_steps) *client.cancel = true;
      }
      world_.scheduler->step();
      ASSERT_LT(++n_steps, 200'000) << "the scheduler does not come to an end";
    }
    for (const Client& client : clients_) check(client);
  }

  uint64_t n_preemptions() const { return world_.scheduler->n_preemptions(); }
  size_t n_answered_calls = 0, n_complete = 0, n_cancelled = 0;

 private:
  uint64_t between(uint64_t least, uint64_t most) { return least + rng_.next() % (most - least + 1); }

  std::vector<int32_t> some_prompt() {
    std::vector<int32_t> prompt;
    if (!clients_.empty() && between(0, 2) == 0)
      prompt = clients_[between(0, clients_.size() - 1)].request.prompt_tokens;
    const uint64_t n_more = between(1, between(0, 3) == 0 ? 500 : 60);
    const auto n_vocab = static_cast<uint64_t>(tokenizer().n_vocab());
    for (uint64_t i = 0; i < n_more; ++i) prompt.push_back(static_cast<int32_t>(between(0, n_vocab - 1)));
    prompt.resize(std::min<size_t>(prompt.size(), kCtxTokens - 200));
    return prompt;
  }

  OutputSettings some_output() {
    OutputSettings output;
    output.starts_in_thinking = between(0, 1) == 0;
    if (output.starts_in_thinking) output.rules.max_reasoning_tokens = static_cast<int32_t>(between(0, 100));
    const uint64_t kind = between(0, 4);
    output.tools_enabled = kind >= 2 && kind <= 3;
    if (kind == 0) output.rules.json_schema = kPerson;
    if (kind == 1) output.rules.json_schema = kList;
    if (!output.tools_enabled) return output;
    output.rules.tools = {{"person", kPerson, true}, {"free", "{}", false}};
    output.rules.tool_use = kind == 2 ? ToolUse::kRequired : ToolUse::kNamed;
    if (kind == 3) output.rules.tool_name = "person";
    output.rules.parallel_calls = between(0, 1) == 0;
    return output;
  }

  SamplingParams some_sampling() {
    SamplingParams sampling{.temperature = between(0, 2) == 0 ? 0.0F : 1.0F, .min_p = 0.0F, .seed = between(0, 1000)};
    if (between(0, 1) == 0) {
      sampling.presence_penalty = 0.5F;
      sampling.frequency_penalty = 0.25F;
      sampling.repetition_penalty = 1.3F;
    }
    for (const char c : std::string_view("\"}]")) {  // so that answers come to an end
      sampling.logit_bias.push_back({tokenizer().encode_text(std::string_view(&c, 1)).at(0), 3.0F});
    }
    return sampling;
  }

  void submit(int32_t step) {
    Client client;
    client.request.prompt_tokens = some_prompt();
    client.request.output = some_output();
    client.request.sampling = some_sampling();
    client.request.max_tokens = static_cast<int32_t>(between(1, 900));
    client.request.n_top_logprobs = 0;
    if (between(0, 5) == 0) client.cancel_step = step + static_cast<int32_t>(between(0, 150));
    client.submit(*world_.scheduler, compiler_);
    clients_.push_back(std::move(client));
  }

  void check(const Client& client) {
    ASSERT_NE(client.sink->last<Finished>(), nullptr) << "a request did not finish";
    Client alone;
    alone.request = client.request;
    World quiet({});
    RuleCompiler compiler{tokenizer()};
    alone.submit(*quiet.scheduler, compiler);
    while (quiet.scheduler->step()) {
    }
    std::vector<int32_t> expected = alone.sink->tokens();
    const std::vector<int32_t> answer = client.sink->tokens();
    n_answered_calls += client.sink->all<ToolCallEnd>().size();
    if (client.sink->last<Finished>()->reason == FinishReason::kCancelled) {
      ASSERT_LE(answer.size(), expected.size());
      expected.resize(answer.size());
      ++n_cancelled;
    } else {
      EXPECT_EQ(seen_by_client(*client.sink), seen_by_client(*alone.sink));
      n_complete += client.sink->last<Finished>()->reason != FinishReason::kLength ? 1 : 0;
    }
    EXPECT_EQ(answer, expected);
  }

  Xorshift64Star rng_;
  uint64_t n_slots_;
  World world_;
  RuleCompiler compiler_{tokenizer()};
  std::vector<Client> clients_;
};

TEST(BoundScheduleTest, BoundAnswersAreThoseGivenAlone) {
  uint64_t n_preemptions = 0;
  size_t n_calls = 0, n_complete = 0, n_cancelled = 0;
  for (uint64_t seed = 1; seed <= kWorlds; ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.run();
    if (testing::Test::HasFailure()) return;
    n_preemptions += simulation.n_preemptions();
    n_calls += simulation.n_answered_calls;
    n_complete += simulation.n_complete;
    n_cancelled += simulation.n_cancelled;
  }
  RecordProperty("preemptions", static_cast<int>(n_preemptions));
  EXPECT_GT(n_preemptions, kWorlds / 4);
  EXPECT_GT(n_calls, kWorlds / 2);
  EXPECT_GT(n_complete, kWorlds);
  EXPECT_GT(n_cancelled, kWorlds / 2);
}

}  // namespace
}  // namespace ds4
