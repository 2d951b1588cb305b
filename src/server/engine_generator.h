#pragma once

// The Generator that is a loaded engine and its thread. prepare() renders and tokenises on the caller's thread,
// submit() hands over; neither waits for the model.

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.h"
#include "chat/replay_map.h"
#include "engine/engine.h"
#include "engine/engine_thread.h"
#include "server/api.h"
#include "server/measured_sink.h"
#include "server/metrics.h"
#include "server/trace_log.h"

namespace ds4 {

struct GeneratorOptions {
  int32_t default_max_tokens = kUnlimitedTokens;
  bool thinks_by_default = true;
  ReasoningEffort default_effort = ReasoningEffort::kDefault;
  size_t max_waiting = 64;  // requests that may wait for a slot; more are refused as busy
  bool keeps_volatile_text = false;
  ReplayLimits replay;               // max_ids 0: every call that a client returns is written in the canonical form
  int64_t request_timeout_us = 0;    // of one generation, waiting included; 0: none
  std::shared_ptr<Metrics> metrics;  // null: nothing is counted
  TraceLog* trace = nullptr;         // null: none; outlives the generator
};

class EngineGenerator : public Generator {
 public:
  // The engine must outlive this object, which alone may drive its scheduler.
  EngineGenerator(Engine& engine, const GeneratorOptions& options);

  const ServedModel& model() const override { return model_; }
  const Tokenizer* tokenizer() const override { return engine_.tokenizer(); }
  Result<GenerateRequest> prepare(const Conversation& conversation, const RenderOptions& options) const override;
  Result<void> bind_rules(GenerateRequest& request) const override { return engine_.bind_rules(request); }
  Result<void> submit(GenerateRequest request) override;
  Result<size_t> count_prompt_tokens(const Conversation& conversation, const RenderOptions& options) const override;

  ReplayStatistics replay_statistics() const;

  // Ends everything that runs or waits, as cancelled.
  void stop() { thread_.stop(StopMode::kCancel); }

 private:
  void after_step();
  EngineState look_at_engine() const;
  void expire_old(int64_t now_us);

  Engine& engine_;
  const MonotonicClock clock_;
  const GeneratorOptions options_;
  ServedModel model_;
  std::unique_ptr<ReplayStore> replay_store_;  // null without a disk store
  std::unique_ptr<ReplayMap> replay_;          // may be null
  std::mutex timed_mutex_;                     // guards what follows
  std::vector<std::weak_ptr<MeasuredSink>> timed_;
  EngineThread thread_;  // last: it uses the others
};

}  // namespace ds4
