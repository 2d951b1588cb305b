#pragma once

// The parts of an engine (engine/engine.h), put together so that a bench sees what goes through them: every token that
// is run is counted, and the model may be left out, so that what is remembered, written and read back has the published
// model's sizes on a machine that could not compute it. The model outlives the engine: a restart makes only the engine
// anew. One thread.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "chat/replay_map.h"
#include "engine/scheduler.h"
#include "session/disk_replay_store.h"
#include "tools/bench/subject.h"

namespace ds4 {

struct AgentModel {
  Subject subject;  // without a model when nothing is computed
  Hyperparams hyperparams;
  Hash128 identity;
  std::string name;

  const Tokenizer& tokenizer() const { return *subject.tokenizer; }
  bool computes() const { return subject.model != nullptr; }
};

// Not computing: hyper-parameters of `options.synthetic` or of the model file, whose vocabulary is used in any case.
Result<std::unique_ptr<AgentModel>> load_agent_model(const SubjectOptions& options, bool computes, const Clock& clock);

// Between the scheduler and the model.
class CountingRunner final : public StepRunner {
 public:
  CountingRunner(StepRunner& runner, const Clock& clock) : runner_(runner), clock_(clock) {}
  const ForwardLimits& limits() const override { return runner_.limits(); }
  Result<std::span<const float>> run(std::span<const SequenceInput> inputs) override;

  int64_t n_steps() const { return n_steps_; }
  int64_t n_tokens() const { return n_tokens_; }
  int64_t run_us() const { return run_us_; }

 private:
  StepRunner& runner_;
  const Clock& clock_;
  int64_t n_steps_ = 0;
  int64_t n_tokens_ = 0;
  int64_t run_us_ = 0;
};

struct AgentEngine {
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<StepRunner> runner;
  std::unique_ptr<CountingRunner> counter;
  std::unique_ptr<SessionStore> sessions;  // null: nothing is remembered
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<ReplayStore> replay_store;  // null without a disk store
  std::unique_ptr<ReplayMap> replay;
  uint64_t checkpoint_budget_bytes = 0;

  // Both must outlive it. kv memory is filled with bytes where no model writes it, so that it is really there.
  static Result<std::unique_ptr<AgentEngine>> create(AgentModel& model, const EngineOptions& options,
                                                     const Clock& clock);
};

}  // namespace ds4
