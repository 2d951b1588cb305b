// What requests cost when something is remembered: tokens run are counted, answers are compared with those of an engine
// that remembers nothing.

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace ds4 {
namespace {

using test::some_tokens;
using test::TinyEngine;
using test::TinyRequest;

class ReuseTest : public testing::Test {
 protected:
  // Runs to the end; the number of tokens that were run for it, by the progress it reports.
  static size_t run(TinyEngine& engine, const TinyRequest& request) {
    request.submit(*engine.scheduler);
    int n_steps = 0;
    while (engine.scheduler->step()) {
      if (++n_steps > 3000) {
        ADD_FAILURE() << "the scheduler does not come to an end";
        return 0;
      }
    }
    const Finished* finished = request.sink->last<Finished>();
    EXPECT_NE(finished, nullptr);
    return finished == nullptr ? 0 : finished->usage.prompt_tokens - finished->usage.cached_tokens;
  }
  static std::vector<int32_t> answer_alone(const TinyRequest& wanted) {
    TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 1200}});
    const TinyRequest request(wanted.request.prompt_tokens, wanted.request.max_tokens);
    run(engine, request);
    return request.sink->tokens();
  }
  static std::vector<int32_t> join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  TinyEngine engine_{{.kv = {.n_slots = 2, .ctx_tokens = 1200, .n_pages = 30},
                      .prefill_chunk_tokens = 32,
                      .remembers = true,
                      .spacing = {.prompt_tokens = 100, .answer_tokens = 20, .least_tokens = 10}}};
};

TEST_F(ReuseTest, TheNextTurnComputesOnlyWhatIsNew) {
  const TinyRequest first(some_tokens(230, 1), 30);
  EXPECT_EQ(run(engine_, first), 230U);
  // The last sampled token of a turn was run too.
  const TinyRequest second(join(join(first.request.prompt_tokens, first.sink->tokens()), some_tokens(25, 2)), 10);
  EXPECT_EQ(run(engine_, second), 25U);
  EXPECT_EQ(second.sink->tokens(), answer_alone(second));
}

TEST_F(ReuseTest, TheSamePromptAgainCostsOneToken) {
  const TinyRequest first(some_tokens(230, 1), 12);
  run(engine_, first);
  const TinyRequest again(some_tokens(230, 1), 12);
  EXPECT_EQ(run(engine_, again), 1U);
  EXPECT_EQ(again.sink->tokens(), first.sink->tokens());
}

TEST_F(ReuseTest, AnEditInTheMiddleCostsWhatFollowsTheCheckpointBefore) {
  const TinyRequest first(some_tokens(450, 1), 5);
  run(engine_, first);
  std::vector<int32_t> edited = some_tokens(450, 1);
  edited[330] = (edited[330] + 1) % 256;
  const TinyRequest second(edited, 5);
  EXPECT_EQ(run(engine_, second), 150U) << "checkpoints stand at multiples of 100";
  EXPECT_EQ(second.sink->tokens(), answer_alone(second));
}

TEST_F(ReuseTest, TwoAtOnceStartFromTheSameState) {
  const std::vector<int32_t> head = some_tokens(300, 1);
  run(engine_, TinyRequest(head, 1));
  const TinyRequest a(join(head, some_tokens(20, 2)), 15);
  const TinyRequest b(join(head, some_tokens(20, 3)), 15);
  a.submit(*engine_.scheduler);
  EXPECT_LE(run(engine_, b), 21U);
  EXPECT_EQ(a.sink->tokens(), answer_alone(a));
  EXPECT_EQ(b.sink->tokens(), answer_alone(b));
}

TEST_F(ReuseTest, WhatTwoBeginWithIsComputedOnce) {
  const std::vector<int32_t> head = some_tokens(650, 1);
  const TinyRequest a(join(head, some_tokens(40, 2)), 15);
  const TinyRequest b(join(head, some_tokens(30, 3)), 15);
  a.submit(*engine_.scheduler);
  EXPECT_EQ(run(engine_, b), 30U) << "they part between two of the usual checkpoints";
  EXPECT_EQ(a.sink->tokens(), answer_alone(a));
  EXPECT_EQ(b.sink->tokens(), answer_alone(b));
}

TEST_F(ReuseTest, OfTwoEqualPromptsOneWaits) {
  const TinyRequest a(some_tokens(650, 1), 15);
  const TinyRequest b(some_tokens(650, 1), 15);
  a.submit(*engine_.scheduler);
  EXPECT_EQ(run(engine_, b), 1U);
  EXPECT_EQ(b.sink->tokens(), a.sink->tokens());
}

TEST_F(ReuseTest, WhoWaitsForAnotherGoesOnWithoutIt) {
  const std::vector<int32_t> head = some_tokens(650, 1);
  TinyRequest a(join(head, some_tokens(40, 2)), 5);
  const TinyRequest b(join(head, some_tokens(30, 3)), 5);
  a.submit(*engine_.scheduler);
  b.submit(*engine_.scheduler);
  // Somebody else is not kept waiting with it.
  const TinyRequest brief(some_tokens(25, 4), 3);
  brief.submit(*engine_.scheduler);
  for (int i = 0; i < 5; ++i) engine_.scheduler->step();
  EXPECT_FALSE(brief.sink->tokens().empty());
  EXPECT_EQ(engine_.scheduler->n_waiting(), 1U);
  *a.cancel = true;
  while (engine_.scheduler->step()) {
  }
  EXPECT_EQ(b.sink->tokens(), answer_alone(b));
  EXPECT_EQ(brief.sink->tokens(), answer_alone(brief));
}

TEST_F(ReuseTest, ACancelledPrefillIsNotLost) {
  TinyRequest first(some_tokens(900, 1), 5);
  first.submit(*engine_.scheduler);
  for (int i = 0; i < 10; ++i) engine_.scheduler->step();
  *first.cancel = true;
  engine_.scheduler->step();
  ASSERT_NE(first.sink->last<Finished>(), nullptr) << "one step after the cancellation";
  EXPECT_EQ(first.sink->last<Finished>()->reason, FinishReason::kCancelled);
  EXPECT_EQ(engine_.cache->n_free_slots(), 2);
  const size_t n_done = first.sink->all<PrefillProgress>().back().done_tokens;
  EXPECT_GE(n_done, 200U);
  const TinyRequest again(some_tokens(900, 1), 5);
  EXPECT_EQ(run(engine_, again), 900U - n_done);
  EXPECT_EQ(again.sink->tokens(), answer_alone(again));
}

TEST_F(ReuseTest, PagesOfACancelledRequestCanBeTakenAtOnce) {
  TinyRequest first(some_tokens(900, 1), 5);
  first.submit(*engine_.scheduler);
  for (int i = 0; i < 20; ++i) engine_.scheduler->step();
  *first.cancel = true;
  engine_.scheduler->step();
  EXPECT_TRUE(engine_.sessions->make_room(30)) << "all pages of the pool";
}

TEST_F(ReuseTest, AShortRequestDuringLongOnesAnswersWithinFiveSteps) {
  // Every slot reads a long prompt.
  const TinyRequest a(some_tokens(1100, 1), 5);
  const TinyRequest b(some_tokens(1100, 2), 5);
  a.submit(*engine_.scheduler);
  b.submit(*engine_.scheduler);
  for (int i = 0; i < 7; ++i) engine_.scheduler->step();
  const TinyRequest brief(some_tokens(25, 3), 3);
  brief.submit(*engine_.scheduler);
  int n_steps = 0;
  while (brief.sink->tokens().empty() && n_steps < 100) {
    engine_.scheduler->step();
    ++n_steps;
  }
  EXPECT_LE(n_steps, 5);
  EXPECT_EQ(engine_.scheduler->n_preemptions(), 1U);
  while (engine_.scheduler->step()) {
  }
  for (const TinyRequest* request : {&a, &b, &brief}) EXPECT_EQ(request->sink->tokens(), answer_alone(*request));
}

// What a waiting prompt begins with is being computed: nobody has to give way for it before.
TEST_F(ReuseTest, NobodyGivesWayToARequestThatWaitsForAPrefix) {
  TinyEngine engine({.kv = {.n_slots = 2, .ctx_tokens = 2400, .n_pages = 40},
                     .prefill_chunk_tokens = 200,
                     .remembers = true,
                     .spacing = {.prompt_tokens = 2000}});
  const std::vector<int32_t> head = some_tokens(390, 1);
  const TinyRequest a(join(head, some_tokens(1700, 2)), 5);
  const TinyRequest b(some_tokens(2200, 3), 5);
  a.submit(*engine.scheduler);
  b.submit(*engine.scheduler);
  const TinyRequest brief(join(head, some_tokens(5, 4)), 3);
  brief.submit(*engine.scheduler);
  EXPECT_EQ(engine.scheduler->n_preemptions(), 0U);
  while (engine.scheduler->step()) {
  }
  EXPECT_EQ(engine.scheduler->n_preemptions(), 1U);
  EXPECT_EQ(brief.sink->last<Finished>()->usage.cached_tokens, head.size());
}

TEST_F(ReuseTest, WhoGivesWayGoesOnWhereItWas) {
  // Two answers that together need more pages than there are.
  TinyEngine engine({.kv = {.n_slots = 2, .ctx_tokens = 1200, .n_pages = 5},
                     .prefill_chunk_tokens = 64,
                     .remembers = true,
                     .spacing = {.prompt_tokens = 200, .answer_tokens = 100}});
  const TinyRequest a(some_tokens(500, 1), 400);
  const TinyRequest b(some_tokens(500, 2), 400);
  a.submit(*engine.scheduler);
  b.submit(*engine.scheduler);
  int n_steps = 0;
  while (engine.scheduler->step()) ASSERT_LT(++n_steps, 5000);
  EXPECT_GE(engine.scheduler->n_preemptions(), 1U);
  for (const TinyRequest* request : {&a, &b}) {
    ASSERT_NE(request->sink->last<Finished>(), nullptr);
    EXPECT_EQ(request->sink->tokens(), answer_alone(*request));
  }
}

TEST_F(ReuseTest, SampledAnswersAreTheSameAfterGivingWay) {
  std::vector<std::vector<int32_t>> answers;
  for (const int32_t n_pages : {20, 5}) {
    TinyEngine engine(
        {.kv = {.n_slots = 2, .ctx_tokens = 1200, .n_pages = n_pages}, .prefill_chunk_tokens = 64, .remembers = true});
    const TinyRequest a(some_tokens(500, 1), 400);
    TinyRequest b(some_tokens(500, 2), 400);
    b.request.sampling = {.temperature = 1.2F, .min_p = 0, .seed = 7};
    a.submit(*engine.scheduler);
    b.submit(*engine.scheduler);
    while (engine.scheduler->step()) {
    }
    EXPECT_EQ(engine.scheduler->n_preemptions() > 0, n_pages == 5);
    answers.push_back(b.sink->tokens());
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_GT(answers[0].size(), 100U);
}

}  // namespace
}  // namespace ds4
