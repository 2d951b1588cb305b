#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace ds4 {
namespace {

using test::some_tokens;
using test::TinyEngine;
using test::TinyRequest;

void run_to_end(Scheduler& scheduler) {
  int n_steps = 0;
  while (scheduler.step()) ASSERT_LT(++n_steps, 2000) << "the scheduler does not come to an end";
}

std::vector<int32_t> answer_alone(const TinyRequest& wanted) {
  TinyEngine engine;
  const TinyRequest request(wanted.request.prompt_tokens, wanted.request.max_tokens);
  request.submit(*engine.scheduler);
  run_to_end(*engine.scheduler);
  return request.sink->tokens();
}

TEST(SchedulerTest, HasNothingToDoWhenEmpty) {
  TinyEngine engine;
  EXPECT_FALSE(engine.scheduler->step());
}

TEST(SchedulerTest, AnswersDoNotDependOnNeighbours) {
  TinyEngine engine;
  std::vector<TinyRequest> requests;
  const std::vector<int32_t> prompt_sizes{1, 3, 31, 32, 33, 70, 150, 4};  // twice as many as slots
  for (size_t i = 0; i < prompt_sizes.size(); ++i) {
    requests.emplace_back(some_tokens(prompt_sizes[i], i + 1), 6 + static_cast<int32_t>(i));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].submit(*engine.scheduler);
    if (i % 3 == 2) engine.scheduler->step();
  }
  run_to_end(*engine.scheduler);
  for (const TinyRequest& request : requests) {
    ASSERT_NE(request.sink->last<Finished>(), nullptr);
    EXPECT_FALSE(request.sink->tokens().empty());
    EXPECT_EQ(request.sink->tokens(), answer_alone(request));
  }
  EXPECT_EQ(engine.cache->n_free_slots(), 4);
  EXPECT_EQ(engine.cache->n_free_pages(), engine.cache->limits().n_pages);
}

TEST(SchedulerTest, SampledAnswersDependOnTheSeedOnly) {
  std::vector<std::vector<int32_t>> answers;
  for (const bool has_neighbour : {false, true}) {
    TinyEngine engine;
    TinyRequest neighbour(some_tokens(40, 9), 20);
    if (has_neighbour) neighbour.submit(*engine.scheduler);
    TinyRequest request(some_tokens(10, 1), 20);
    request.request.sampling = {.temperature = 1.5F, .min_p = 0, .seed = 42};
    request.submit(*engine.scheduler);
    run_to_end(*engine.scheduler);
    answers.push_back(request.sink->tokens());
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_FALSE(answers[0].empty());
}

TEST(SchedulerTest, TwoRequestsAreServedInterleaved) {
  TinyEngine engine;
  const TinyRequest first(some_tokens(5, 1), 10);
  const TinyRequest second(some_tokens(5, 2), 10);
  first.submit(*engine.scheduler);
  second.submit(*engine.scheduler);
  for (size_t n = 1; n <= 5; ++n) {
    ASSERT_TRUE(engine.scheduler->step());
    EXPECT_EQ(first.sink->tokens().size(), n);
    EXPECT_EQ(second.sink->tokens().size(), n);
  }
}

TEST(SchedulerTest, ShortPromptDoesNotWaitForALongOne) {
  TinyEngine engine;
  const TinyRequest long_one(some_tokens(300, 1), 2);
  const TinyRequest short_one(some_tokens(5, 2), 2);
  long_one.submit(*engine.scheduler);
  short_one.submit(*engine.scheduler);
  engine.scheduler->step();
  engine.scheduler->step();
  EXPECT_GE(short_one.sink->tokens().size(), 1U);
  EXPECT_TRUE(long_one.sink->tokens().empty());
  run_to_end(*engine.scheduler);
  EXPECT_EQ(long_one.sink->tokens().size(), 2U);
}

TEST(SchedulerTest, ChunksAreSmallerWhileAnswersAreWritten) {
  TinyEngine engine;
  Scheduler scheduler(*engine.forward, *engine.cache, engine.tokenizer.get(), nullptr,
                      {.prefill_chunk_tokens = 32, .mixed_chunk_tokens = 10, .n_vocab = 288});
  const TinyRequest answering(some_tokens(5, 1), 50);
  const TinyRequest reading(some_tokens(300, 2), 1);
  answering.submit(scheduler);
  scheduler.step();
  reading.submit(scheduler);
  scheduler.step();
  EXPECT_EQ(reading.sink->all<PrefillProgress>().back().done_tokens, 10U);
  *answering.cancel = true;
  scheduler.step();
  EXPECT_EQ(reading.sink->all<PrefillProgress>().back().done_tokens, 42U);
}

TEST(SchedulerTest, LongPromptsTakeTurns) {
  TinyEngine engine;
  const TinyRequest a(some_tokens(100, 1), 1);
  const TinyRequest b(some_tokens(100, 2), 1);
  a.submit(*engine.scheduler);
  b.submit(*engine.scheduler);
  for (int i = 0; i < 4; ++i) engine.scheduler->step();
  ASSERT_FALSE(a.sink->events.empty());
  ASSERT_FALSE(b.sink->events.empty());
  EXPECT_EQ(a.sink->all<PrefillProgress>().back().done_tokens, 64U);
  EXPECT_EQ(b.sink->all<PrefillProgress>().back().done_tokens, 64U);
}

TEST(SchedulerTest, DecodingGoesOnDuringALongPrefill) {
  TinyEngine engine;
  const TinyRequest talker(some_tokens(3, 1), 50);
  talker.submit(*engine.scheduler);
  engine.scheduler->step();
  const TinyRequest reader(some_tokens(320, 2), 1);
  reader.submit(*engine.scheduler);
  for (int i = 0; i < 5; ++i) engine.scheduler->step();
  EXPECT_EQ(talker.sink->tokens().size(), 6U);
  EXPECT_EQ(reader.sink->all<PrefillProgress>().size(), 5U);
}

TEST(SchedulerTest, RequestsWaitForASlotInOrder) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 100}});
  const TinyRequest first(some_tokens(4, 1), 3);
  const TinyRequest second(some_tokens(4, 2), 3);
  first.submit(*engine.scheduler);
  second.submit(*engine.scheduler);
  engine.scheduler->step();
  EXPECT_EQ(engine.scheduler->n_waiting(), 1U);
  EXPECT_EQ(engine.scheduler->n_running(), 1U);
  run_to_end(*engine.scheduler);
  EXPECT_NE(first.sink->last<Finished>(), nullptr);
  EXPECT_NE(second.sink->last<Finished>(), nullptr);
}

// One slot; the answers of `names`' requests, all submitted at once, in the order in which they were written.
std::string order_of_answers(std::string_view names) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 100}});
  std::vector<TinyRequest> requests;
  for (size_t i = 0; i < names.size(); ++i) {
    requests.emplace_back(some_tokens(4, static_cast<uint32_t>(i + 1)), 2);
    requests.back().request.client = names.substr(i, 1);
    requests.back().submit(*engine.scheduler);
  }
  std::string order;
  std::vector<bool> seen(names.size());
  for (bool has_work = true; has_work;) {
    has_work = engine.scheduler->step();
    for (size_t i = 0; i < names.size(); ++i) {
      if (seen[i] || requests[i].sink->last<Finished>() == nullptr) continue;
      seen[i] = true;
      order += names[i];
    }
  }
  return order;
}

TEST(SchedulerTest, ClientsTakeTurns) {
  EXPECT_EQ(order_of_answers("aaaab"), "abaaa") << "one that has sent much does not keep another waiting";
  EXPECT_EQ(order_of_answers("aaabbbc"), "abcabab");
}

TEST(SchedulerTest, AFreeSlotGoesToTheClientWithTheFewestRunning) {
  TinyEngine engine({.kv = {.n_slots = 3, .ctx_tokens = 100}});
  std::vector<TinyRequest> requests;
  const std::string names = "aaaab";
  for (size_t i = 0; i < names.size(); ++i) {
    requests.emplace_back(some_tokens(4, static_cast<uint32_t>(i + 1)), i == 0 ? 1 : 40);
    requests.back().request.client = names.substr(i, 1);
    requests.back().submit(*engine.scheduler);
  }
  for (int i = 0; i < 4; ++i) engine.scheduler->step();
  EXPECT_FALSE(requests[0].sink->tokens().empty());
  EXPECT_TRUE(requests[3].sink->tokens().empty());
  EXPECT_FALSE(requests[4].sink->tokens().empty()) << "came last, but has none running";
}

TEST(SchedulerTest, CancelWhileQueuedEndsWithinOneStep) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 100}});
  const TinyRequest running(some_tokens(4, 1), 50);
  const TinyRequest queued(some_tokens(4, 2), 50);
  running.submit(*engine.scheduler);
  queued.submit(*engine.scheduler);
  engine.scheduler->step();
  queued.cancel->store(true);
  engine.scheduler->step();
  ASSERT_NE(queued.sink->last<Finished>(), nullptr);
  EXPECT_EQ(queued.sink->last<Finished>()->reason, FinishReason::kCancelled);
  EXPECT_FALSE(running.sink->has_ended());
}

TEST(SchedulerTest, CancelDuringPrefillEndsWithinOneStepAndFreesItsMemory) {
  TinyEngine engine;
  const TinyRequest request(some_tokens(300, 1), 5);
  request.submit(*engine.scheduler);
  engine.scheduler->step();
  request.cancel->store(true);
  EXPECT_FALSE(engine.scheduler->step());
  ASSERT_NE(request.sink->last<Finished>(), nullptr);
  EXPECT_EQ(request.sink->last<Finished>()->reason, FinishReason::kCancelled);
  EXPECT_EQ(request.sink->all<PrefillProgress>().size(), 1U);
  EXPECT_EQ(engine.cache->n_free_slots(), 4);
  EXPECT_EQ(engine.cache->n_free_pages(), engine.cache->limits().n_pages);
}

TEST(SchedulerTest, CancelDuringDecodeKeepsWhatWasSaid) {
  TinyEngine engine;
  const TinyRequest request(some_tokens(3, 1), 50);
  request.submit(*engine.scheduler);
  for (int i = 0; i < 4; ++i) engine.scheduler->step();
  request.cancel->store(true);
  EXPECT_FALSE(engine.scheduler->step());
  ASSERT_NE(request.sink->last<Finished>(), nullptr);
  EXPECT_EQ(request.sink->last<Finished>()->reason, FinishReason::kCancelled);
  EXPECT_EQ(request.sink->last<Finished>()->usage.completion_tokens, 4U);
}

TEST(SchedulerTest, CancelAllEndsQueuedAndRunning) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 100}});
  const TinyRequest running(some_tokens(4, 1), 50);
  const TinyRequest queued(some_tokens(4, 2), 50);
  running.submit(*engine.scheduler);
  queued.submit(*engine.scheduler);
  engine.scheduler->step();
  engine.scheduler->cancel_all();
  EXPECT_TRUE(running.sink->has_ended());
  EXPECT_TRUE(queued.sink->has_ended());
  EXPECT_FALSE(engine.scheduler->step());
}

TEST(SchedulerTest, PromptAsLongAsTheContextFailsBeforeAnyWork) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 40}});
  const TinyRequest request(some_tokens(40, 1), 5);
  request.submit(*engine.scheduler);
  ASSERT_NE(request.sink->last<Failed>(), nullptr);
  EXPECT_EQ(request.sink->last<Failed>()->error.code, ErrorCode::kContextLength);
  EXPECT_FALSE(engine.scheduler->step());
}

TEST(SchedulerTest, ContextEndsTheAnswer) {
  TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 40}});
  const TinyRequest request(some_tokens(35, 2), kUnlimitedTokens);
  request.submit(*engine.scheduler);
  run_to_end(*engine.scheduler);
  ASSERT_NE(request.sink->last<Finished>(), nullptr);
  EXPECT_EQ(request.sink->last<Finished>()->reason, FinishReason::kLength);
  EXPECT_EQ(request.sink->tokens().size(), 6U);
}

TEST(SchedulerTest, ImpossibleTokensAndEmptyPromptsFail) {
  TinyEngine engine;
  for (const std::vector<int32_t>& prompt : std::vector<std::vector<int32_t>>{{}, {-1}, {5, 288}}) {
    const TinyRequest request(prompt, 5);
    request.submit(*engine.scheduler);
    ASSERT_NE(request.sink->last<Failed>(), nullptr);
    EXPECT_EQ(request.sink->last<Failed>()->error.code, ErrorCode::kInvalidArgument);
  }
}

TEST(SchedulerTest, LackOfPagesMakesTheYoungerWait) {
  // Three pages of 256 tokens: the first request takes one, the second needs all.
  TinyEngine engine({.kv = {.n_slots = 2, .ctx_tokens = 600, .n_pages = 3}, .prefill_chunk_tokens = 128});
  const TinyRequest modest(some_tokens(10, 1), 30);
  const TinyRequest greedy(some_tokens(590, 2), 5);
  modest.submit(*engine.scheduler);
  greedy.submit(*engine.scheduler);
  run_to_end(*engine.scheduler);
  for (const TinyRequest* request : {&modest, &greedy}) {
    ASSERT_NE(request->sink->last<Finished>(), nullptr);
    EXPECT_EQ(request->sink->tokens(), answer_alone(*request));
  }
  EXPECT_EQ(engine.cache->n_free_pages(), 3);
}

TEST(SchedulerTest, ForcedTokensAreComputedAsIfSampled) {
  TinyEngine engine;
  TinyRequest request(some_tokens(20, 1), 8);
  const std::vector<int32_t> natural = answer_alone(request);
  request.request.forced_tokens = {natural[0], (natural[1] + 1) % 256};
  request.submit(*engine.scheduler);
  run_to_end(*engine.scheduler);
  std::vector<int32_t> prompt = request.request.prompt_tokens;
  prompt.insert(prompt.end(), {natural[0], (natural[1] + 1) % 256});
  std::vector<int32_t> expected{natural[0], (natural[1] + 1) % 256};
  const std::vector<int32_t> rest = answer_alone(TinyRequest(prompt, 6));
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(request.sink->tokens(), expected);

  const TinyRequest bad = [] {
    TinyRequest made(some_tokens(3, 1), 1);
    made.request.forced_tokens = {288};
    return made;
  }();
  bad.submit(*engine.scheduler);
  ASSERT_NE(bad.sink->last<Failed>(), nullptr);
  EXPECT_NE(bad.sink->last<Failed>()->error.message.find("forced token 288"), std::string::npos);
}

TEST(SchedulerTest, WhatNeverFitsFailsAndSaysWhy) {
  TinyEngine engine({.kv = {.n_slots = 2, .ctx_tokens = 600, .n_pages = 2}, .prefill_chunk_tokens = 128});
  const TinyRequest greedy(some_tokens(590, 2), 5);
  greedy.submit(*engine.scheduler);
  run_to_end(*engine.scheduler);
  ASSERT_NE(greedy.sink->last<Failed>(), nullptr);
  EXPECT_EQ(greedy.sink->last<Failed>()->error.code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(engine.cache->n_free_pages(), 2);
}

}  // namespace
}  // namespace ds4
