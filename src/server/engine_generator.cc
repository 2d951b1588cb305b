#include "server/engine_generator.h"

#include <utility>

#include "chat/renderer.h"
#include "server/replay_sink.h"
#include "session/disk_replay_store.h"

namespace ds4 {
namespace {

std::unique_ptr<ReplayStore> make_replay_store(Engine& engine) {
  DiskStore* disk = engine.sessions() != nullptr ? engine.sessions()->disk() : nullptr;
  return disk != nullptr ? std::make_unique<DiskReplayStore>(*disk) : nullptr;
}

}  // namespace

EngineGenerator::EngineGenerator(Engine& engine, const GeneratorOptions& options)
    : engine_(engine),
      model_{.id = model_id_from_name(engine.model_name()),
             .name = engine.model_name(),
             .created_s = unix_time_s(),
             .ctx_tokens = engine.ctx_tokens(),
             .default_max_tokens = options.default_max_tokens,
             .thinks_by_default = options.thinks_by_default,
             .default_effort = options.default_effort,
             .keeps_volatile_text = options.keeps_volatile_text},
      replay_store_(make_replay_store(engine)),
      replay_(options.replay.max_ids > 0 ? std::make_unique<ReplayMap>(options.replay, replay_store_.get()) : nullptr),
      thread_(engine.scheduler(), options.max_waiting) {}

Result<GenerateRequest> EngineGenerator::prepare(const Conversation& conversation, const RenderOptions& options) const {
  RenderOptions with_replay = options;
  with_replay.replay = replay_.get();
  return engine_.prepare(conversation, with_replay);
}

Result<void> EngineGenerator::submit(GenerateRequest request) {
  request.sink =
      std::make_shared<ReplaySink>(std::move(request.sink), replay_.get(), std::move(request.output.call_id_prefix));
  return thread_.submit(std::move(request));
}

ReplayStatistics EngineGenerator::replay_statistics() const {
  return replay_ != nullptr ? replay_->statistics() : ReplayStatistics{};
}

Result<size_t> EngineGenerator::count_prompt_tokens(const Conversation& conversation,
                                                    const RenderOptions& options) const {
  RenderOptions with_format = options;
  with_format.format = engine_.chat_format();
  with_format.replay = replay_.get();
  const RenderedPrompt prompt = TRY(render(conversation, with_format));
  return engine_.tokenizer()->encode(prompt.segments).size();
}

}  // namespace ds4
