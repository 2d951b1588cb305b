// ds4-bench agent: the made-up conversations, the count of what is new, and whole runs of the program.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "chat/renderer.h"
#include "gguf/reader.h"
#include "support/run_program.h"
#include "text/vocabulary_metadata.h"
#include "tools/bench/agent_accounting.h"
#include "tools/bench/agent_answer.h"
#include "tools/bench/agent_workload.h"

namespace ds4 {
namespace {

using nlohmann::json;

const Tokenizer& mini_tokenizer() {
  static const std::unique_ptr<Tokenizer> kTokenizer = [] {
    const auto file = GgufFile::open(DS4_SOURCE_DIR "/models/ds4-mini.gguf").take_value();
    return Tokenizer::create(vocabulary_from_metadata(file->metadata()).take_value()).take_value();
  }();
  return *kTokenizer;
}

// Small agents of every kind; the prompts of a whole conversation, in order.
WorkloadOptions small_workload(AgentKind kind) {
  return {.kind = kind, .turns = 20, .target_tokens = 6000, .scale = 0.05, .user_every = 4};
}

std::vector<AgentRequest> all_requests(const WorkloadOptions& options, int32_t client) {
  AgentClient agent(options, client);
  std::vector<AgentRequest> all;
  for (auto group = agent.next(options.turns); !group.empty(); group = agent.next(options.turns))
    std::ranges::move(group, std::back_inserter(all));
  return all;
}

std::string text_of(const AgentRequest& request) {
  Conversation whole = request.conversation;
  whole.messages.push_back(request.answer);
  const auto prompt = render(whole, {.thinking_mode = request.thinking_mode});
  EXPECT_TRUE(prompt.ok()) << prompt.error().message;
  return prompt.ok() ? prompt.value().to_text() : "";
}

std::vector<std::string> texts_of(const WorkloadOptions& options, int32_t client) {
  std::vector<std::string> texts;
  for (const AgentRequest& request : all_requests(options, client)) texts.push_back(text_of(request));
  return texts;
}

size_t count(const std::vector<AgentRequest>& requests, RequestKind kind) {
  return static_cast<size_t>(std::ranges::count(requests, kind, &AgentRequest::kind));
}

class AgentWorkloadTest : public testing::TestWithParam<AgentKind> {};

TEST_P(AgentWorkloadTest, TheSameSeedGivesTheSameRequestsAndAnotherOthers) {
  WorkloadOptions options = small_workload(GetParam());
  const std::vector<std::string> texts = texts_of(options, 0);
  EXPECT_EQ(texts_of(options, 0), texts);
  EXPECT_NE(texts_of(options, 1), texts);
  options.seed = 2;
  EXPECT_NE(texts_of(options, 0), texts);
}

TEST_P(AgentWorkloadTest, GrowsToTheTargetByWhatWasSaid) {
  WorkloadOptions options = small_workload(GetParam());
  const auto size_of = [](const Conversation& conversation) {
    const auto prompt = render(conversation, {.thinking_mode = ThinkingMode::kThinking});
    return static_cast<int32_t>(mini_tokenizer().encode(prompt.value().segments).size());
  };
  options.count_tokens = size_of;
  std::string last;
  int32_t n_tokens = 0;
  for (const AgentRequest& request : all_requests(options, 0)) {
    if (request.kind != RequestKind::kMain) continue;
    const std::string text = text_of(request);
    EXPECT_GT(text.size(), last.size());
    if (GetParam() != AgentKind::kChat) {
      // Reasoning stays where tools are defined.
      EXPECT_TRUE(text.starts_with(last)) << "turn " << request.turn;
    }
    last = text;
    n_tokens = size_of(request.conversation);
  }
  EXPECT_GT(n_tokens, options.target_tokens * 85 / 100);
  EXPECT_LT(n_tokens, options.target_tokens * 115 / 100);
}

INSTANTIATE_TEST_SUITE_P(Kinds, AgentWorkloadTest,
                         testing::Values(AgentKind::kClaudeCode, AgentKind::kCodex, AgentKind::kChat));

TEST(AgentWorkloadTest, WhatRunsBesideTheMainConversation) {
  WorkloadOptions options = small_workload(AgentKind::kClaudeCode);
  options.n_sub_agents = 3;
  options.edit_turn = 10;
  const std::vector<AgentRequest> requests = all_requests(options, 0);
  EXPECT_EQ(count(requests, RequestKind::kMain), 19U);
  EXPECT_EQ(count(requests, RequestKind::kAfterEdit), 1U);
  EXPECT_EQ(count(requests, RequestKind::kTitle), 5U);
  EXPECT_EQ(count(requests, RequestKind::kSubAgent), 12U);
  EXPECT_EQ(count(requests, RequestKind::kCompaction), 0U);
  AgentClient agent(options, 0);
  EXPECT_EQ(agent.next(20).size(), 2U) << "a title beside the first";
  while (agent.turn() < 3) agent.next(20);
  EXPECT_EQ(agent.next(20).size(), 3U) << "sub-agents side by side";
  while (!agent.next(7).empty()) {
  }
  EXPECT_EQ(agent.turn(), 7) << "no further than asked";
}

TEST(AgentWorkloadTest, AnEditChangesTheMiddleAndNothingBefore) {
  WorkloadOptions options = small_workload(AgentKind::kClaudeCode);
  options.edit_turn = 10;
  std::string before;
  std::string after;
  for (const AgentRequest& request : all_requests(options, 0)) {
    if (request.turn == 9 && request.kind == RequestKind::kMain) before = text_of(request);
    if (request.kind == RequestKind::kAfterEdit) after = text_of(request);
  }
  const auto n_shared = std::ranges::mismatch(before, after).in1 - before.begin();
  EXPECT_GT(n_shared, static_cast<ptrdiff_t>(before.size()) / 4);
  EXPECT_LT(n_shared, static_cast<ptrdiff_t>(before.size()) * 9 / 10);
}

TEST(AgentWorkloadTest, AFullHistoryIsSummedUp) {
  for (const AgentKind kind : {AgentKind::kClaudeCode, AgentKind::kCodex}) {
    WorkloadOptions options = small_workload(kind);
    options.max_prompt_tokens = 4500;
    const std::vector<AgentRequest> requests = all_requests(options, 0);
    EXPECT_GE(count(requests, RequestKind::kCompaction), 1U);
    for (const AgentRequest& request : requests) {
      EXPECT_LT(static_cast<double>(content_bytes(request.conversation.messages)) / options.bytes_per_token, 4500);
      if (request.kind == RequestKind::kCompaction) {
        EXPECT_EQ(request.conversation.messages.front().tools.empty(), kind == AgentKind::kCodex);
      }
    }
  }
}

TEST(KnownPrefixesTest, CountsWhatFollowsTheLongestCommonPrefix) {
  KnownPrefixes known;
  EXPECT_EQ(known.new_tokens(std::vector<int32_t>{1, 2, 3}), 3);
  known.add({1, 2, 3});
  EXPECT_EQ(known.new_tokens(std::vector<int32_t>{1, 2, 3, 4, 5}), 2);
  EXPECT_EQ(known.new_tokens(std::vector<int32_t>{1, 2, 9, 4}), 2);
  EXPECT_EQ(known.new_tokens(std::vector<int32_t>{9, 2, 3}), 3);
  EXPECT_EQ(known.new_tokens(std::vector<int32_t>{1, 2}), 1) << "one is computed in any case";
  known.add({1, 2, 3, 4, 5, 6});
  known.add({1, 2, 9, 9});
  known.add({1, 2, 3});
  EXPECT_EQ(known.shared_tokens(std::vector<int32_t>{1, 2, 3, 4, 8}), 4);
  EXPECT_EQ(known.shared_tokens(std::vector<int32_t>{1, 2, 9, 1}), 3);
  EXPECT_EQ(known.shared_tokens(std::vector<int32_t>{1, 2, 5}), 2);
}

TEST(KnownPrefixesTest, AgreesWithComparingAll) {
  Xorshift64Star rng(3);
  KnownPrefixes known;
  std::vector<std::vector<int32_t>> all;
  for (int i = 0; i < 400; ++i) {
    std::vector<int32_t> tokens;
    for (uint64_t n = rng.next() % 8; n > 0; --n) tokens.push_back(static_cast<int32_t>(rng.next() % 3));
    int32_t most = 0;
    for (const std::vector<int32_t>& other : all)
      most = std::max(most, static_cast<int32_t>(std::ranges::mismatch(tokens, other).in1 - tokens.begin()));
    EXPECT_EQ(known.shared_tokens(tokens), most);
    all.push_back(tokens);
    known.add(tokens);
  }
}

TEST(TurnRendererTest, AnAnswerCutAndSpeltOtherwiseSaysTheSame) {
  TurnRenderer renderer(mini_tokenizer(), {.recut_share = 0.5, .compact_json = true}, 1);
  const Conversation conversation{.messages = {{.role = Role::kSystem, .content = "s", .tools = {R"({"name": "f"})"}},
                                               {.role = Role::kUser, .content = "please"}}};
  const Message answer{.role = Role::kAssistant,
                       .reasoning_content = "Something to think about, with several longer words.",
                       .tool_calls = {{.id = "1", .name = "f", .arguments = R"({"a": [1, 2], "b": "x: [1, 2]"})"}}};
  const RenderedTurn turn =
      renderer.render(conversation, answer, {.thinking_mode = ThinkingMode::kThinking}).take_value();
  const auto bytes_of = [](const std::vector<int32_t>& tokens) {
    std::string text;
    for (const int32_t token : tokens) text += mini_tokenizer().token_bytes(token);
    return text;
  };
  EXPECT_TRUE(turn.starts_in_thinking);
  EXPECT_EQ(turn.sent, turn.prompt);
  EXPECT_EQ(turn.answer.back(), mini_tokenizer().eos_id());
  EXPECT_EQ(turn.sampled.back(), mini_tokenizer().eos_id());
  EXPECT_GT(turn.sampled.size(), turn.answer.size());
  const std::string canonical = bytes_of(turn.answer);
  EXPECT_NE(canonical.find("[1, 2]</"), std::string::npos);
  std::string expected = canonical;
  expected.replace(expected.find("[1, 2]</"), 6, "[1,2]");
  EXPECT_EQ(bytes_of(turn.sampled), expected);
}

TEST(TurnRendererTest, SpacesLeaveJsonButNotItsStrings) {
  EXPECT_EQ(without_json_spaces(R"({"a b": [1, 2,	3], "c": "d \" e"})"), R"({"a b":[1,2,3],"c":"d \" e"})");
}

json run_agent(const std::string& arguments) {
  const test::ProgramResult result = test::run_program("ds4-bench", "agent --json - " + arguments);
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  return json::parse(result.standard_output, nullptr, false);
}

class AgentProgramTest : public testing::Test {
 protected:
  AgentProgramTest() { std::filesystem::remove_all(directory_); }
  ~AgentProgramTest() override { std::filesystem::remove_all(directory_); }
  std::string disk() const { return " --kv-disk-dir " + directory_ + " --kv-disk-space-mb 512"; }

  const std::string directory_ = test::temporary_path("agent-kv");
  const std::string small_ = "--no-compute --turns 10 --target-tokens 6000 --scale 0.1 --user-every 4 --clients 3 ";
};

TEST_F(AgentProgramTest, NextToNothingIsComputedTwice) {
  const json run = run_agent(small_ + "--recut 0.1 --compact-json");
  EXPECT_EQ(run.at("total").at("requests"), 39);
  EXPECT_LT(run.at("kinds").at("main").at("excess_of_new"), 0.02);
  EXPECT_GT(run.at("kinds").at("main").at("new_tokens"), 6000);
  EXPECT_EQ(run.at("canonical_turns"), 0);
  EXPECT_EQ(run.at("recomputed_tokens"), 0);
  int64_t sent = 0;
  for (const json& request : run.at("requests")) {
    EXPECT_GE(request.at("excess_tokens"), 0) << request;
    EXPECT_GE(request.at("prefilled_tokens"), 1) << request;
    EXPECT_EQ(request.at("sent_tokens").get<int64_t>(),
              request.at("prefilled_tokens").get<int64_t>() + request.at("reused_tokens").get<int64_t>());
    sent += request.at("sent_tokens").get<int64_t>();
  }
  EXPECT_EQ(run.at("total").at("sent_tokens"), sent);
}

TEST_F(AgentProgramTest, WithoutMemoryEverythingIsComputed) {
  const json run = run_agent(small_ + "--no-kv-reuse");
  EXPECT_EQ(run.at("total").at("prefilled_tokens"), run.at("total").at("sent_tokens"));
  EXPECT_EQ(run.at("recomputed_tokens"), 0);
  EXPECT_EQ(run.at("checkpoints").at("taken"), 0);
}

TEST_F(AgentProgramTest, CanonicalCallsAloneCostTheAnswers) {
  const json with = run_agent(small_ + "--compact-json");
  const json without = run_agent(small_ + "--compact-json --no-replay");
  EXPECT_GT(without.at("total").at("excess_tokens").get<int64_t>(),
            2 * with.at("total").at("excess_tokens").get<int64_t>());
}

TEST_F(AgentProgramTest, RestartsGoOnFromDisk) {
  const json run = run_agent(small_ + "--restart-every 4" + disk());
  EXPECT_EQ(run.at("restarts"), 2);
  EXPECT_EQ(run.at("kinds").at("after-restart").at("requests"), 6);
  // A conversation that has come less far since it was written last is not written again.
  EXPECT_LE(run.at("kinds").at("after-restart").at("excess_tokens"), 6 * 512);
  EXPECT_GE(run.at("checkpoints").at("from_disk"), 4);
  EXPECT_GT(run.at("disk").at("written_bytes"), run.at("disk").at("written_checkpoint_bytes"));
}

TEST_F(AgentProgramTest, AnEditCostsNoMoreThanTheTurnsAround) {
  const json run = run_agent(small_ + "--edit-turn 8");
  const json& edits = run.at("kinds").at("after-edit");
  EXPECT_EQ(edits.at("requests"), 3);
  EXPECT_GT(edits.at("new_tokens"), 0);
  // A checkpoint stands where the changed turn begins, or less than 128 tokens before.
  for (const json& request : run.at("requests")) {
    if (request.at("kind") != "after-edit") continue;
    EXPECT_GT(request.at("excess_tokens"), 0);
    EXPECT_LE(request.at("excess_tokens").get<int>(), request.at("known_of_turn_tokens").get<int>() + 128) << request;
  }
}

TEST_F(AgentProgramTest, EverythingAtOnce) {
  const json run =
      run_agent(small_ + "--agent claude-code,codex,chat --sub-agents 2 --ctx 5000 --parallel 2 --no-titles");
  EXPECT_GE(run.at("kinds").at("compaction").at("requests"), 1);
  EXPECT_EQ(run.at("kinds").at("sub-agent").at("requests"), 16);
  EXPECT_FALSE(run.at("kinds").contains("title"));
}

TEST_F(AgentProgramTest, TheEmbeddedModelComputesIt) {
  const std::string csv = test::temporary_path("agent.csv");
  const json run = run_agent(
      "-t 2 --agent codex --turns 3 --target-tokens 500 --scale 0.01 --user-every 2 --clients 2 --recut 0.1 --csv " +
      csv);
  EXPECT_EQ(run.at("model"), "ds4-mini");
  EXPECT_EQ(run.at("total").at("requests"), 10);
  EXPECT_LT(run.at("total").at("excess_tokens"), run.at("total").at("new_tokens"));
  EXPECT_GT(run.at("model_ms"), 0);
  const std::string lines = read_file(csv, 1 << 20).take_value();
  EXPECT_TRUE(lines.starts_with("client,turn,kind,"));
  EXPECT_EQ(std::ranges::count(lines, '\n'), 11);
}

TEST_F(AgentProgramTest, ARestoredCheckpointIsComparedWithACopy) {
  const json run = run_agent("--restore-tokens 3000" + disk());
  EXPECT_EQ(run.at("restore_tokens"), 3000);
  EXPECT_GT(run.at("bytes"), 3000 * 500);
  EXPECT_GT(run.at("from_disk_ms"), 0);
}

TEST_F(AgentProgramTest, WrongUsageIsNamed) {
  const auto expect_usage = [](const std::string& arguments, std::string_view part) {
    const test::ProgramResult result = test::run_program("ds4-bench", "agent " + arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_NE(result.standard_error.find(part), std::string::npos) << result.standard_error;
  };
  expect_usage("--agent cursor", "claude-code, codex or chat");
  expect_usage("--restart-every 3", "--kv-disk-dir");
  expect_usage("--restore-tokens 3", "--kv-disk-dir");
  expect_usage("--synthetic flash -m x.gguf", "--synthetic");
  expect_usage("--prefill 3", "--prefill");
}

}  // namespace
}  // namespace ds4
