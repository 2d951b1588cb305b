// No step of a running answer asks the heap for memory, once the first ones have sized every scratch buffer. Events
// belong to the client and are left out: the scheduler here has no tokenizer, so tokens make none.

#include <gtest/gtest.h>

#include "backends/cpu/cpu_backend.h"
#include "engine/allocation_counter.h"
#include "engine/engine_fixture.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

#ifndef DS4_SANITIZED

constexpr int32_t kSequences = 2;

TEST(AllocationCounterTest, CountsWhatIsAllocatedWhileItRuns) {
  test::start_counting_allocations();
  const auto value = std::make_unique<int>(1);
  EXPECT_EQ(test::stop_counting_allocations(), 1);
  const auto other = std::make_unique<int>(2);
  EXPECT_EQ(*value + *other, 3);
}

// Two answers, one of them sampled from the sorted nucleus.
void submit_requests(Scheduler& scheduler, int32_t prompt_tokens) {
  for (int32_t i = 0; i < kSequences; ++i) {
    test::TinyRequest made(test::some_tokens(prompt_tokens + i, 5 + static_cast<uint64_t>(i)), 1000);
    made.request.n_top_logprobs = -1;
    made.request.sampling = {.temperature = 1.0F, .top_p = i == 0 ? 1.0F : 0.9F, .seed = 3};
    made.submit(scheduler);
  }
}

struct StepCounts {
  int32_t prompt_tokens;
  int32_t warm;  // prefill included
  int32_t counted;
};

void expect_no_allocations(const std::string& model_path, const StepCounts& steps) {
  constexpr int32_t kChunk = 32;
  const auto backend = make_cpu_backend({.threads = 2});
  const auto model = Model::load(GgufFile::open(model_path).take_value(), *backend).take_value();
  const auto cache =
      KvCache::create(*backend, model->hyperparams, {.n_slots = kSequences, .ctx_tokens = 512}).take_value();
  const ForwardLimits limits{.batch_rows = kChunk + kSequences, .logits_rows = kSequences};
  const auto forward = ForwardPass::create(*backend, *model, *cache, limits).take_value();
  Scheduler scheduler(*forward, *cache, nullptr, nullptr,
                      {.prefill_chunk_tokens = kChunk, .n_vocab = model->hyperparams.n_vocab});
  submit_requests(scheduler, steps.prompt_tokens);
  for (int32_t i = 0; i < steps.warm; ++i) scheduler.step();
  ASSERT_EQ(scheduler.n_running(), kSequences);

  test::start_counting_allocations();
  for (int32_t i = 0; i < steps.counted; ++i) scheduler.step();
  EXPECT_EQ(test::stop_counting_allocations(), 0) << "in " << steps.counted << " steps";
  EXPECT_EQ(scheduler.n_running(), kSequences);
}

// From 140 tokens on to 340: across the end of a page and of windows of both ratios.
TEST(AllocationTest, DecodeStepsOfTheTinyModelAllocateNothing) {
  expect_no_allocations(test::tiny_model_path(), {.prompt_tokens = 100, .warm = 48, .counted = 200});
}

TEST(AllocationTest, DecodeStepsOfTheEmbeddedModelAllocateNothing) {
  expect_no_allocations(DS4_SOURCE_DIR "/models/ds4-mini.gguf", {.prompt_tokens = 12, .warm = 4, .counted = 8});
}

#else

TEST(AllocationTest, DecodeStepsAllocateNothing) { GTEST_SKIP() << "sanitizers have an allocator of their own"; }

#endif

}  // namespace
}  // namespace ds4
