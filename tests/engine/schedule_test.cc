// Many random schedules of a simulated engine against a sequential oracle: requests with common starts come, run beside
// each other, are cancelled and come again, while slots, pages and the memory for checkpoints are short.

#include <gtest/gtest.h>

#include <algorithm>

#include "backends/cpu/cpu_backend.h"
#include "base/rng.h"
#include "engine/engine_fixture.h"
#include "engine/simulated_runner.h"
#include "model/synthetic.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

constexpr int32_t kVocab = 64;
constexpr int32_t kCtxTokens = 1100;

struct Client {
  std::vector<int32_t> prompt;
  int32_t n_tokens = 0;
  SteeringSettings steering;
  std::shared_ptr<test::RecordingSink> sink = std::make_shared<test::RecordingSink>();
  std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);
  int32_t cancel_step = -1;
};

// One random world and its clients.
class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : rng_(seed),
        backend_(make_cpu_backend({.threads = 1})),
        hyperparams_(synthetic_hyperparams(test::tiny_model_shape()).take_value()) {
    const auto n_slots = static_cast<int32_t>(between(1, 5));
    const auto chunk = static_cast<int32_t>(between(1, 200));
    cache_ = KvCache::create(*backend_, hyperparams_,
                             {.n_slots = n_slots,
                              .ctx_tokens = kCtxTokens,
                              .n_pages = static_cast<int32_t>(between(5, 5 * static_cast<uint64_t>(n_slots)))})
                 .take_value();
    runner_ = std::make_unique<test::SimulatedRunner>(
        *cache_, ForwardLimits{.batch_rows = chunk + n_slots, .logits_rows = n_slots}, kVocab);
    sessions_ = std::make_unique<SessionStore>(
        *cache_, nullptr,
        SessionOptions{.max_frontier_bytes = cache_->layout().frontier_bytes * between(0, 12), .min_tokens = 1});
    scheduler_ = std::make_unique<Scheduler>(
        *runner_, *cache_, nullptr, sessions_.get(),
        SchedulerOptions{.prefill_chunk_tokens = chunk,
                         .n_vocab = kVocab,
                         .spacing = {.prompt_tokens = static_cast<int32_t>(between(1, 300)),
                                     .answer_tokens = static_cast<int32_t>(between(1, 50)),
                                     .least_tokens = static_cast<int32_t>(between(1, 100))},
                         .steering = {.has_directions = true, .directions = {1, 2}, .defaults = {}}});
  }

  void run() {
    const uint64_t n_clients = between(2, 14);
    int32_t n_steps = 0;
    while (clients_.size() < n_clients || scheduler_->n_running() + scheduler_->n_waiting() > 0) {
      if (clients_.size() < n_clients && between(0, 3) == 0) submit(n_steps);
      for (const Client& client : clients_) {
        if (client.cancel_step == n_steps) *client.cancel = true;
      }
      scheduler_->step();
      ASSERT_LT(++n_steps, 200'000) << "the scheduler does not come to an end";
    }
    for (const Client& client : clients_) check(client);
    while (sessions_->make_room(cache_->limits().n_pages)) break;
    EXPECT_EQ(cache_->n_free_pages(), cache_->limits().n_pages) << "a page was lost";
    EXPECT_EQ(cache_->n_free_slots(), cache_->limits().n_slots);
  }

 private:
  uint64_t between(uint64_t least, uint64_t most) { return least + rng_.next() % (most - least + 1); }

  // Often the start of what somebody else said, or all of it and more.
  void submit(int32_t step) {
    Client client;
    if (!clients_.empty() && between(0, 3) != 0) {
      const Client& other = clients_[between(0, clients_.size() - 1)];
      client.prompt = other.prompt;
      if (between(0, 1) == 0) {
        const std::vector<int32_t> answer = other.sink->tokens();
        client.prompt.insert(client.prompt.end(), answer.begin(), answer.end());
      } else {
        client.prompt.resize(between(1, client.prompt.size()));
      }
    }
    const uint64_t n_more = between(client.prompt.empty() ? 1 : 0, between(0, 2) == 0 ? 700 : 40);
    for (uint64_t i = 0; i < n_more; ++i) client.prompt.push_back(static_cast<int32_t>(between(0, kVocab - 1)));
    client.prompt.resize(std::min<size_t>(client.prompt.size(), kCtxTokens - 90));
    client.n_tokens = static_cast<int32_t>(between(1, 80));
    if (between(0, 1) == 0) client.steering = some_steering();
    if (between(0, 4) == 0) client.cancel_step = step + static_cast<int32_t>(between(0, 60));

    test::TinyRequest request(client.prompt, client.n_tokens);
    request.request.sink = client.sink;
    request.request.cancel = client.cancel;
    request.request.steering = client.steering;
    request.request.client = std::string(1, static_cast<char>(97 + between(0, 2)));
    scheduler_->submit(std::move(request.request));
    clients_.push_back(std::move(client));
  }

  SteeringSettings some_steering() {
    SteeringSettings steering;
    steering.scales.attn = static_cast<float>(between(0, 1));
    steering.scales.ffn = static_cast<float>(between(0, 1)) - 0.5F;
    const SteeringPolicy policies[] = {SteeringPolicy::kAlways, SteeringPolicy::kDecoding, SteeringPolicy::kOff};
    steering.policy = policies[between(0, 2)];
    return steering;
  }

  void check(const Client& client) {
    ASSERT_NE(client.sink->last<Finished>(), nullptr) << "a request did not finish";
    const std::vector<int32_t> answer = client.sink->tokens();
    std::vector<int32_t> expected =
        test::simulated_answer(cache_->layout(), client.prompt, client.n_tokens, kVocab,
                               {client.steering.for_prompt(), client.steering.for_output()});
    if (*client.cancel) expected.resize(std::min(expected.size(), answer.size()));
    EXPECT_EQ(answer, expected);
  }

  Xorshift64Star rng_;
  std::unique_ptr<Backend> backend_;
  Hyperparams hyperparams_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<test::SimulatedRunner> runner_;
  std::unique_ptr<SessionStore> sessions_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<Client> clients_;
};

TEST(ScheduleTest, AThousandRandomSchedulesGiveTheSequentialAnswers) {
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE(seed);
    Simulation simulation(seed);
    simulation.run();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace ds4
