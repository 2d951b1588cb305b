#include "tools/bench/agent_engine.h"

#include <algorithm>
#include <utility>

#include "backends/cpu/cpu_backend.h"
#include "base/rng.h"
#include "base/system_memory.h"
#include "engine/empty_runner.h"
#include "engine/memory_plan.h"
#include "engine/model_identity.h"
#include "model/activations.h"
#include "model/synthetic_weights.h"
#include "tools/common/model_path.h"

namespace ds4 {
namespace {

void fill(const TensorView& view, uint64_t n_bytes) {
  std::byte* const memory = view.buffer->host_data();
  if (memory == nullptr) return;
  Xorshift64Star rng(1);
  for (uint64_t at = 0; at + sizeof(uint64_t) <= n_bytes; at += sizeof(uint64_t)) {
    const uint64_t word = rng.next();
    std::copy_n(reinterpret_cast<const std::byte*>(&word), sizeof(word), memory + view.offset_bytes + at);
  }
}

void fill_memory(const KvCache& cache) {
  const KvLimits& limits = cache.limits();
  fill(cache.memory().pages, static_cast<uint64_t>(limits.n_pages) * cache.layout().page_bytes);
  fill(cache.memory().frontiers, static_cast<uint64_t>(limits.n_slots) * cache.layout().frontier_bytes);
}

MemoryRequest memory_request(const AgentModel& model, const KvLayout& layout, const EngineOptions& options,
                             const ForwardLimits& limits) {
  MemoryRequest request{.page_bytes = layout.page_bytes,
                        .frontier_bytes = layout.frontier_bytes,
                        .ctx_tokens = options.ctx_tokens > 0 ? options.ctx_tokens : kDefaultCtxTokens,
                        .n_slots = options.n_slots,
                        .remembers = options.spacing.prompt_tokens > 0,
                        .kv_bytes = options.kv_bytes,
                        .available_bytes = available_memory_bytes()};
  if (model.computes()) {
    request.scratch_bytes = Activations::size_bytes(model.hyperparams, layout, limits);
    request.weight_bytes = model.subject.model->file->file_size_bytes();
  }
  if (const auto memory = model.subject.backend->device_memory()) {
    request.weight_bytes = 0;  // already there
    request.weights_are_mapped = false;
    request.host_bytes = request.available_bytes;
    request.available_bytes = memory->free_bytes;
    request.device = model.subject.backend->name();
    request.workspace_bytes = device_workspace_bytes(model.hyperparams, limits, request.ctx_tokens);
  }
  return request;
}

}  // namespace

Result<std::span<const float>> CountingRunner::run(std::span<const SequenceInput> inputs) {
  const int64_t start_us = clock_.now_us();
  for (const SequenceInput& input : inputs) n_tokens_ += static_cast<int64_t>(input.tokens.size());
  ++n_steps_;
  Result<std::span<const float>> logits = runner_.run(inputs);
  run_us_ += clock_.elapsed_us(start_us);
  return logits;
}

Result<std::unique_ptr<AgentModel>> load_agent_model(const SubjectOptions& options, bool computes, const Clock& clock) {
  auto model = std::make_unique<AgentModel>();
  if (computes) {
    model->subject = TRY(load_subject(options, clock));
    model->hyperparams = model->subject.model->hyperparams;
    model->name = model->subject.name;
  } else {
    const std::string path = TRY(resolve_model_path(options.engine.model_path));
    const std::unique_ptr<GgufFile> file = TRY(GgufFile::open(path));
    model->subject.backend = make_cpu_backend({.threads = 1, .profile = options.engine.profile});
    model->subject.tokenizer = TRY(load_tokenizer(*file));
    if (options.synthetic.empty()) {
      model->hyperparams = TRY(Hyperparams::read(file->metadata()));
    } else {
      const SyntheticShape shape = TRY(named_synthetic_shape(options.synthetic));
      model->hyperparams = TRY(synthetic_hyperparams(shape));
    }
    model->name = fmt::format("nothing computed, shape of {}", options.synthetic.empty() ? path : options.synthetic);
  }
  if (model->subject.tokenizer == nullptr)
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: it cannot read text", model->name);
  const KvLayout layout = KvLayout::compute(model->hyperparams, options.engine.profile);
  model->identity = computes ? model_identity(*model->subject.model->file, layout, options.engine.profile)
                             : hash_bytes(std::as_bytes(std::span(model->name)));
  return model;
}

Result<std::unique_ptr<AgentEngine>> AgentEngine::create(AgentModel& model, const EngineOptions& options,
                                                         const Clock& clock) {
  auto engine = std::make_unique<AgentEngine>();
  const ForwardLimits limits{.batch_rows = options.prefill_chunk_tokens + options.n_slots,
                             .logits_rows = options.n_slots};
  const KvLayout layout = KvLayout::compute(model.hyperparams, options.profile);
  const MemoryRequest request = memory_request(model, layout, options, limits);
  const MemoryPlan plan = TRY(plan_memory(request));
  engine->cache = TRY(KvCache::create(*model.subject.backend, model.hyperparams, plan.kv));
  const int32_t n_vocab = model.computes() ? model.hyperparams.n_vocab : model.tokenizer().n_vocab();
  if (model.computes()) {
    engine->runner = TRY(ForwardPass::create(*model.subject.backend, *model.subject.model, *engine->cache, limits));
  } else {
    engine->runner = std::make_unique<EmptyRunner>(limits, n_vocab);
    fill_memory(*engine->cache);
  }
  engine->counter = std::make_unique<CountingRunner>(*engine->runner, clock);
  if (request.remembers) {
    std::unique_ptr<DiskStore> disk;
    if (!options.kv_disk_dir.empty()) {
      disk = TRY(DiskStore::open({.directory = options.kv_disk_dir,
                                  .budget_bytes = options.kv_disk_bytes,
                                  .identity = model.identity,
                                  .page_bytes = layout.page_bytes}));
    }
    SessionOptions sessions = options.sessions;
    sessions.max_frontier_bytes = std::min(sessions.max_frontier_bytes, plan.checkpoint_bytes);
    sessions.clock = &clock;
    engine->checkpoint_budget_bytes = sessions.max_frontier_bytes;
    engine->sessions =
        std::make_unique<SessionStore>(*engine->cache, model.subject.tokenizer.get(), sessions, std::move(disk));
  }
  if (engine->sessions != nullptr && engine->sessions->disk() != nullptr)
    engine->replay_store = std::make_unique<DiskReplayStore>(*engine->sessions->disk());
  engine->replay = std::make_unique<ReplayMap>(ReplayLimits{}, engine->replay_store.get());
  engine->scheduler = std::make_unique<Scheduler>(
      *engine->counter, *engine->cache, model.subject.tokenizer.get(), engine->sessions.get(),
      SchedulerOptions{
          .prefill_chunk_tokens = options.prefill_chunk_tokens, .n_vocab = n_vocab, .spacing = options.spacing});
  return engine;
}

}  // namespace ds4
