#pragma once

// The Generator that is a loaded engine and its thread. prepare() renders and tokenises on the caller's thread,
// submit() hands over; neither waits for the model.

#include <memory>

#include "chat/replay_map.h"
#include "engine/engine.h"
#include "engine/engine_thread.h"
#include "server/api.h"

namespace ds4 {

struct GeneratorOptions {
  int32_t default_max_tokens = kUnlimitedTokens;
  bool thinks_by_default = true;
  ReasoningEffort default_effort = ReasoningEffort::kDefault;
  size_t max_waiting = 64;  // requests that may wait for a slot; more are refused as busy
  bool keeps_volatile_text = false;
  ReplayLimits replay;  // max_ids 0: every call that a client returns is written in the canonical form
};

class EngineGenerator final : public Generator {
 public:
  // The engine must outlive this object, which alone may drive its scheduler.
  EngineGenerator(Engine& engine, const GeneratorOptions& options);

  const ServedModel& model() const override { return model_; }
  Result<GenerateRequest> prepare(const Conversation& conversation, const RenderOptions& options) const override;
  Result<void> submit(GenerateRequest request) override;
  Result<size_t> count_prompt_tokens(const Conversation& conversation, const RenderOptions& options) const override;

  ReplayStatistics replay_statistics() const;

  // Ends everything that runs or waits, as cancelled.
  void stop() { thread_.stop(StopMode::kCancel); }

 private:
  const Engine& engine_;
  ServedModel model_;
  std::unique_ptr<ReplayStore> replay_store_;  // null without a disk store
  std::unique_ptr<ReplayMap> replay_;          // may be null
  EngineThread thread_;
};

}  // namespace ds4
