#include "server/engine_generator.h"

#include <utility>

#include "chat/renderer.h"
#include "server/replay_sink.h"
#include "server/trace_sink.h"
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
      options_(options),
      model_{.id = model_id_from_name(engine.model_name()),
             .name = engine.model_name(),
             .created_s = unix_time_s(),
             .ctx_tokens = engine.ctx_tokens(),
             .default_max_tokens = options.default_max_tokens,
             .thinks_by_default = options.thinks_by_default,
             .default_effort = options.default_effort,
             .keeps_volatile_text = options.keeps_volatile_text,
             .chat_format = engine.chat_format(),
             .trained_ctx_tokens = engine.hyperparams().n_ctx_train,
             .n_slots = engine.kv_cache().limits().n_slots},
      replay_store_(make_replay_store(engine)),
      replay_(options.replay.max_ids > 0 ? std::make_unique<ReplayMap>(options.replay, replay_store_.get()) : nullptr),
      thread_(engine.scheduler(), options.max_waiting, [this] { after_step(); }) {}

Result<GenerateRequest> EngineGenerator::prepare(const Conversation& conversation, const RenderOptions& options) const {
  RenderOptions with_replay = options;
  with_replay.replay = replay_.get();
  return engine_.prepare(conversation, with_replay);
}

Result<void> EngineGenerator::submit(GenerateRequest request) {
  if (options_.trace != nullptr) {
    auto inner = std::move(request.sink);
    request.sink = std::make_shared<TraceSink>(std::move(inner), request, engine_.tokenizer(), *options_.trace, clock_);
  }
  request.sink =
      std::make_shared<ReplaySink>(std::move(request.sink), replay_.get(), std::move(request.output.call_id_prefix));
  if (request.cancel == nullptr) request.cancel = std::make_shared<std::atomic<bool>>(false);
  const auto measured =
      std::make_shared<MeasuredSink>(std::move(request.sink), request.cancel, options_.metrics, clock_);
  request.sink = measured;
  if (options_.request_timeout_us > 0) {
    const std::lock_guard lock(timed_mutex_);
    timed_.push_back(measured);
  }
  return thread_.submit(std::move(request));
}

// On the engine's thread, which alone may look at all this.
void EngineGenerator::after_step() {
  const int64_t now_us = clock_.now_us();
  if (options_.metrics != nullptr) options_.metrics->publish(look_at_engine(), now_us);
  if (options_.request_timeout_us > 0) expire_old(now_us);
}

EngineState EngineGenerator::look_at_engine() const {
  const Scheduler& scheduler = engine_.scheduler();
  const KvCache& cache = engine_.kv_cache();
  EngineState state{.n_waiting = scheduler.n_waiting(),
                    .n_running = scheduler.n_running(),
                    .n_slots = static_cast<size_t>(cache.limits().n_slots),
                    .n_preemptions = scheduler.n_preemptions(),
                    .n_prefilled_tokens = scheduler.n_prefilled_tokens(),
                    .n_decoded_tokens = scheduler.n_decoded_tokens(),
                    .kv_pages_used = cache.limits().n_pages - cache.n_free_pages(),
                    .kv_pages_total = cache.limits().n_pages,
                    .sessions = {},
                    .disk = {}};
  if (SessionStore* sessions = engine_.sessions(); sessions != nullptr) {
    state.sessions = sessions->statistics();
    if (DiskStore* disk = sessions->disk(); disk != nullptr) state.disk = disk->statistics();
  }
  return state;
}

void EngineGenerator::expire_old(int64_t now_us) {
  const std::lock_guard lock(timed_mutex_);
  std::erase_if(timed_, [&](const std::weak_ptr<MeasuredSink>& weak) {
    const std::shared_ptr<MeasuredSink> sink = weak.lock();
    if (sink == nullptr) return true;
    if (now_us - sink->start_us() < options_.request_timeout_us) return false;
    sink->expire();
    return true;
  });
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
