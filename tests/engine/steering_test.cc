// Steered requests through the scheduler: what one gets depends on its own steering alone, not on its neighbours and
// not on what is remembered of others.

#include <gtest/gtest.h>

#include <filesystem>

#include "engine/engine_fixture.h"
#include "support/temporary_path.h"

namespace ds4 {
namespace {

using test::some_tokens;
using test::TinyEngine;
using test::TinyRequest;

constexpr SteeringSettings kAlways{.scales = {.attn = 0.5F, .ffn = 1.0F}, .policy = SteeringPolicy::kAlways};
constexpr SteeringSettings kOther{.scales = {.attn = 0.5F, .ffn = -1.0F}, .policy = SteeringPolicy::kAlways};
constexpr SteeringSettings kDecoding{.scales = {.attn = 0.5F, .ffn = 1.0F}, .policy = SteeringPolicy::kDecoding};
constexpr SteeringSettings kNone{};

std::string directions() {
  static const std::string path = test::write_tiny_directions("directions.f32");
  return path;
}

TinyRequest steered(std::vector<int32_t> prompt, int32_t n_tokens, const SteeringSettings& steering) {
  TinyRequest request(std::move(prompt), n_tokens);
  request.request.steering = steering;
  return request;
}

// How much of the prompt was computed.
size_t run(TinyEngine& engine, const TinyRequest& request) {
  request.submit(*engine.scheduler);
  while (engine.scheduler->step()) {
  }
  const Finished* finished = request.sink->last<Finished>();
  EXPECT_NE(finished, nullptr);
  return finished == nullptr ? 0 : finished->usage.prompt_tokens - finished->usage.cached_tokens;
}

// Tokens and their log-probabilities: equal only where the logits are.
std::vector<std::pair<int32_t, float>> output(const TinyRequest& request) {
  std::vector<std::pair<int32_t, float>> all;
  for (const TokenLogprobs& token : request.sink->all<TokenLogprobs>())
    all.emplace_back(token.chosen.token_id, token.chosen.logprob);
  return all;
}

std::vector<std::pair<int32_t, float>> output_alone(const TinyRequest& wanted, bool has_directions = true) {
  TinyEngine engine(
      {.kv = {.n_slots = 1, .ctx_tokens = 1400}, .steering_file = has_directions ? directions() : std::string()});
  TinyRequest request(wanted.request.prompt_tokens, wanted.request.max_tokens);
  if (has_directions) request.request.steering = wanted.request.steering;
  run(engine, request);
  return output(request);
}

std::vector<int32_t> join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// What was said, and something new.
std::vector<int32_t> next_prompt(const TinyRequest& first) {
  return join(join(first.request.prompt_tokens, first.sink->tokens()), some_tokens(25, 2));
}

TEST(SteeredRequestTest, ScaleZeroAndPolicyOffAreBitIdenticalToNoFile) {
  const SteeringSettings off{.scales = kAlways.scales, .policy = SteeringPolicy::kOff};
  const TinyRequest plain(some_tokens(90, 1), 12);
  const auto expected = output_alone(plain, /*has_directions=*/false);
  ASSERT_EQ(expected.size(), 12U);
  EXPECT_EQ(output_alone(steered(some_tokens(90, 1), 12, kNone)), expected);
  EXPECT_EQ(output_alone(steered(some_tokens(90, 1), 12, off)), expected);
  EXPECT_NE(output_alone(steered(some_tokens(90, 1), 12, kAlways)), expected);
}

TEST(SteeredRequestTest, NeighboursWithOtherSteeringDoNotMatter) {
  TinyEngine engine({.steering_file = directions()});
  std::vector<TinyRequest> requests;
  const SteeringSettings settings[] = {kAlways, kNone, kOther, kDecoding};
  for (int32_t i = 0; i < 8; ++i)
    requests.push_back(steered(some_tokens(20 + 17 * i, static_cast<uint64_t>(i + 1)), 10, settings[i % 4]));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].submit(*engine.scheduler);
    if (i % 3 == 2) engine.scheduler->step();
  }
  while (engine.scheduler->step()) {
  }
  for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(output(requests[i]), output_alone(requests[i])) << i;
}

TEST(SteeredRequestTest, DecodingLeavesThePromptAlone) {
  const auto plain = output_alone(steered(some_tokens(60, 1), 10, kNone));
  const auto decoding = output_alone(steered(some_tokens(60, 1), 10, kDecoding));
  EXPECT_EQ(decoding[0], plain[0]) << "the first token comes from the prompt";
  EXPECT_NE(decoding, plain);
  EXPECT_NE(output_alone(steered(some_tokens(60, 1), 10, kAlways))[0], plain[0]);
}

TEST(SteeredRequestTest, WhatCannotBeHadIsRefused) {
  TinyEngine without;
  const TinyRequest request = steered(some_tokens(5, 1), 2, kAlways);
  request.submit(*without.scheduler);
  ASSERT_NE(request.sink->last<Failed>(), nullptr);
  EXPECT_EQ(request.sink->last<Failed>()->error.code, ErrorCode::kInvalidArgument);

  TinyEngine with({.steering_file = directions()});
  const TinyRequest too_much = steered(some_tokens(5, 1), 2, {.scales = {.attn = 101.0F}});
  too_much.submit(*with.scheduler);
  ASSERT_NE(too_much.sink->last<Failed>(), nullptr);
  EXPECT_FALSE(with.scheduler->step());
}

class SteeredReuseTest : public testing::Test {
 protected:
  TinyEngine engine_{{.kv = {.n_slots = 2, .ctx_tokens = 1400, .n_pages = 40},
                      .prefill_chunk_tokens = 64,
                      .remembers = true,
                      .spacing = {.prompt_tokens = 100, .answer_tokens = 20, .least_tokens = 10},
                      .steering_file = directions()}};
};

// Shorter than a page and longer: with and without full pages in the key.
TEST_F(SteeredReuseTest, StatesOfOtherSteeringAreNeverUsed) {
  for (const int32_t n : {80, 600}) {
    SCOPED_TRACE(n);
    const std::vector<int32_t> prompt = some_tokens(n, static_cast<uint64_t>(n));
    for (const SteeringSettings& settings : {kAlways, kNone, kOther}) {
      const TinyRequest first = steered(prompt, 8, settings);
      EXPECT_EQ(run(engine_, first), prompt.size());
      EXPECT_EQ(output(first), output_alone(first));
    }
    for (const SteeringSettings& settings : {kOther, kAlways, kNone}) {
      const TinyRequest again = steered(prompt, 8, settings);
      EXPECT_EQ(run(engine_, again), 1U);
      EXPECT_EQ(output(again), output_alone(again));
    }
  }
}

TEST_F(SteeredReuseTest, ASteeredConversationGoesOn) {
  const TinyRequest first = steered(some_tokens(230, 1), 30, kAlways);
  run(engine_, first);
  const auto history = next_prompt(first);
  const TinyRequest second = steered(history, 10, kAlways);
  EXPECT_EQ(run(engine_, second), 25U);
  EXPECT_EQ(output(second), output_alone(second));
}

// Its generated tokens were steered, and as part of a later prompt they are not.
TEST_F(SteeredReuseTest, ADecodingConversationComputesItsLastAnswerAgain) {
  const TinyRequest first = steered(some_tokens(230, 1), 30, kDecoding);
  run(engine_, first);
  const auto history = next_prompt(first);
  const TinyRequest second = steered(history, 10, kDecoding);
  EXPECT_EQ(run(engine_, second), 1U + 30U + 25U) << "from before the last token of the first prompt";
  EXPECT_EQ(output(second), output_alone(second));
  // Prompts are not steered: anybody may go on from there.
  const TinyRequest plain = steered(history, 10, kNone);
  EXPECT_EQ(run(engine_, plain), 1U);
  EXPECT_EQ(output(plain), output_alone(plain));
}

class SteeredDiskTest : public testing::Test {
 protected:
  SteeredDiskTest() { std::filesystem::remove_all(directory_); }
  ~SteeredDiskTest() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<TinyEngine> open(const KvLimits& kv) const {
    auto engine = std::make_unique<TinyEngine>(test::TinyEngineOptions{.kv = kv, .steering_file = directions()});
    engine->sessions = std::make_unique<SessionStore>(
        *engine->cache, engine->tokenizer.get(), SessionOptions{.min_tokens = 1, .disk_least_tokens = 1},
        DiskStore::open({.directory = directory_,
                         .budget_bytes = uint64_t{64} << 20,
                         .identity = {1, 2},
                         .page_bytes = engine->cache->layout().page_bytes})
            .take_value());
    engine->scheduler = std::make_unique<Scheduler>(
        *engine->forward, *engine->cache, engine->tokenizer.get(), engine->sessions.get(),
        SchedulerOptions{.prefill_chunk_tokens = 32,
                         .n_vocab = 288,
                         .spacing = {},
                         .steering = {.has_directions = true, .directions = {1, 2}, .defaults = {}}});
    return engine;
  }

  const std::string directory_ = test::temporary_path("steered-sessions");
};

// Below a page and beyond.
TEST_F(SteeredDiskTest, ARestartFindsStatesOfTheSameSteeringOnly) {
  const KvLimits kv{.n_slots = 1, .ctx_tokens = 1400, .n_pages = 30};
  for (const int32_t n : {80, 600}) {
    SCOPED_TRACE(n);
    const std::vector<int32_t> prompt = some_tokens(n, static_cast<uint64_t>(n));
    {
      const auto engine = open(kv);
      run(*engine, steered({prompt.begin(), prompt.end() - 1}, 0, kAlways));
      engine->scheduler->finish();
    }
    const auto engine = open(kv);
    for (const auto& [settings, n_computed] :
         {std::pair(kNone, prompt.size()), std::pair(kOther, prompt.size()), std::pair(kAlways, size_t{1})}) {
      const TinyRequest request = steered(prompt, 4, settings);
      EXPECT_EQ(run(*engine, request), n_computed);
      EXPECT_EQ(output(request), output_alone(request));
    }
  }
}

// A prompt of 200 tokens and an answer that is given, so that no end-of-sentence token comes early.
TinyRequest long_decoding(uint64_t seed) {
  TinyRequest request = steered(some_tokens(200, seed), 400, kDecoding);
  for (const int32_t token : some_tokens(380, seed + 10)) request.request.forced_tokens.push_back(token % 200 + 50);
  return request;
}

std::vector<std::pair<int32_t, float>> output_of_same_alone(const TinyRequest& wanted) {
  TinyEngine alone({.kv = {.n_slots = 1, .ctx_tokens = 1000}, .steering_file = directions()});
  TinyRequest same = wanted;
  same.sink = std::make_shared<test::RecordingSink>();
  same.request.sink = same.sink;
  run(alone, same);
  return output(same);
}

constexpr KvLimits kFewPages{.n_slots = 2, .ctx_tokens = 1000, .n_pages = 4};

TEST(SteeredPreemptionTest, ASequenceThatGaveWayIsSteeredAsBefore) {
  TinyEngine engine({.kv = kFewPages, .prefill_chunk_tokens = 64, .remembers = true, .steering_file = directions()});
  const TinyRequest first = long_decoding(1);
  const TinyRequest second = long_decoding(2);
  first.submit(*engine.scheduler);
  run(engine, second);
  EXPECT_GT(engine.scheduler->n_preemptions(), 0U);
  EXPECT_EQ(output(first), output_of_same_alone(first));
  EXPECT_EQ(output(second), output_of_same_alone(second));
}

// Somebody else had the same prompt and the same answer as his prompt, where it was not steered.
TEST_F(SteeredDiskTest, ASequenceThatGaveWayDoesNotGoOnFromAnUnsteeredTwin) {
  const auto engine = open(kFewPages);
  const TinyRequest first = long_decoding(1);
  const TinyRequest second = long_decoding(2);
  const std::vector<int32_t>& answer = second.request.forced_tokens;
  run(*engine, steered(join(second.request.prompt_tokens, {answer.begin(), answer.begin() + 100}), 0, kNone));
  engine->scheduler->finish();
  first.submit(*engine->scheduler);
  run(*engine, second);
  EXPECT_GT(engine->scheduler->n_preemptions(), 0U);
  EXPECT_EQ(output(first), output_of_same_alone(first));
  EXPECT_EQ(output(second), output_of_same_alone(second));
}

}  // namespace
}  // namespace ds4
