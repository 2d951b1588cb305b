#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "backends/cpu/cpu_backend.h"
#include "base/system_memory.h"
#include "chat/renderer.h"
#include "engine/model_identity.h"
#include "model/activations.h"
#include "text/vocabulary_metadata.h"

namespace ds4 {
namespace {

constexpr std::string_view kChatFormatKey = "ds4.chat_format";

uint64_t seed_from_time() {
  return static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) * kGoldenGamma;
}

bool defines_tools(const Conversation& conversation) {
  return std::any_of(conversation.messages.begin(), conversation.messages.end(),
                     [](const Message& message) { return !message.tools.empty(); });
}

bool holds_tool_results(const Conversation& conversation) {
  return std::ranges::any_of(conversation.messages, [](const Message& message) { return message.role == Role::kTool; });
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> load_tokenizer(const GgufFile& file) {
  const MetadataValue* tokens = file.metadata().find("tokenizer.ggml.tokens");
  if (tokens == nullptr || tokens->count == 0) return std::unique_ptr<Tokenizer>();
  Result<VocabularyData> data = vocabulary_from_metadata(file.metadata());
  if (!data.ok()) return with_context(data.take_error(), file.path());
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::create(data.take_value());
  if (!tokenizer.ok()) return with_context(tokenizer.take_error(), file.path());
  return tokenizer;
}

Result<SteeringSettings> SteeringOptions::settings() const {
  const bool has_file = !file.empty();
  SteeringSettings settings{.scales = {}, .policy = policy};
  settings.scales.attn = attn.value_or(0.0F);
  settings.scales.ffn = ffn.value_or(has_file && !attn ? 1.0F : 0.0F);
  TRY(check_steering(settings, has_file));
  return settings;
}

Result<std::unique_ptr<Engine>> Engine::load(const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine());
  engine->steering_settings_ = TRY(options.steering.settings());
  std::unique_ptr<GgufFile> file = TRY(GgufFile::open(options.model_path));
  auto hyperparams = Hyperparams::read(file->metadata());
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), file->path());
  if (options.make_backend) {
    engine->backend_ = TRY(options.make_backend(options));
  } else {
    engine->backend_ = make_cpu_backend(
        {.threads = options.n_threads, .pin_threads = options.pin_threads, .profile = options.profile});
  }
  const Result<std::string_view> name = file->metadata().get_string("general.name");
  engine->model_name_ = name.ok() ? std::string(name.value()) : std::filesystem::path(file->path()).stem().string();
  TRY(engine->plan(options, *file, hyperparams.value()));
  engine->model_ = TRY(Model::load(std::move(file), *engine->backend_, options.load_progress));
  if (!options.steering.file.empty())
    engine->steering_ = TRY(Steering::load(options.steering.file, engine->hyperparams(), *engine->backend_));
  TRY(engine->read_metadata(options));
  TRY(engine->allocate(options));
  return engine;
}

// Before any weight is placed: what does not fit is refused at once.
Result<void> Engine::plan(const EngineOptions& options, const GgufFile& file, const Hyperparams& hyperparams) {
  const int32_t most = hyperparams.n_ctx_train;
  if (options.ctx_tokens > most) {
    return make_error(ErrorCode::kInvalidArgument, "a context of {} tokens: {} allows at most {}", options.ctx_tokens,
                      model_name_, most);
  }
  const int32_t ctx_tokens = options.ctx_tokens > 0 ? options.ctx_tokens : std::min(kDefaultCtxTokens, most);
  limits_ = {.batch_rows = std::min(options.prefill_chunk_tokens, ctx_tokens) + options.n_slots,
             .logits_rows = std::max(options.logits_rows, options.n_slots)};
  const KvLayout layout = KvLayout::compute(hyperparams, backend_->profile());
  const uint64_t placed = placed_weight_bytes(file, hyperparams, *backend_);
  MemoryRequest request{.page_bytes = layout.page_bytes,
                        .frontier_bytes = layout.frontier_bytes,
                        .scratch_bytes = Activations::size_bytes(hyperparams, layout, limits_),
                        .weight_bytes = placed > 0 ? placed : file.file_size_bytes(),
                        .weights_are_mapped = placed == 0,
                        .ctx_tokens = ctx_tokens,
                        .n_slots = options.n_slots,
                        .remembers = options.spacing.prompt_tokens > 0,
                        .kv_bytes = options.kv_bytes,
                        .available_bytes = available_memory_bytes()};
  if (const std::optional<DeviceMemory> memory = backend_->device_memory()) {
    request.host_bytes = request.available_bytes;
    request.available_bytes = memory->free_bytes;
    request.device = fmt::format("{} device {}", backend_->name(), options.device);
    request.workspace_bytes = device_workspace_bytes(hyperparams, limits_, ctx_tokens);
    request.expert_bytes = placed_expert_bytes(file, hyperparams, *backend_);
  }
  const std::string limited = TRY(limit_experts(options.expert_device_bytes, *backend_, request));
  plan_ = TRY(plan_memory(request));
  if (!limited.empty()) plan_.warning = plan_.warning.empty() ? limited : limited + "; " + plan_.warning;
  return {};
}

Result<void> Engine::read_metadata(const EngineOptions& options) {
  const GgufFile& file = *model_->file;
  const Metadata& metadata = file.metadata();
  if (metadata.contains(kChatFormatKey)) {
    const std::string_view text = TRY(metadata.get_string(kChatFormatKey));
    const std::optional<ChatFormat> format = chat_format_from_name(text);
    if (!format) {
      return make_error(ErrorCode::kCorrupt, "{}: key {}: expected 'preview' or '0731', found '{}'", file.path(),
                        kChatFormatKey, text);
    }
    chat_format_ = *format;
  }
  chat_format_ = options.chat_format.value_or(chat_format_);

  tokenizer_ = TRY(load_tokenizer(file));
  if (tokenizer_ != nullptr && tokenizer_->n_vocab() > hyperparams().n_vocab) {
    return make_error(ErrorCode::kCorrupt, "{}: the vocabulary has {} tokens, the model only {}", file.path(),
                      tokenizer_->n_vocab(), hyperparams().n_vocab);
  }
  if (tokenizer_ != nullptr) rule_compiler_ = std::make_unique<RuleCompiler>(*tokenizer_);
  return {};
}

Result<void> Engine::allocate(const EngineOptions& options) {
  const int32_t chunk = std::min(options.prefill_chunk_tokens, plan_.kv.ctx_tokens);
  const KvLayout layout = KvLayout::compute(hyperparams(), backend_->profile());
  const bool remembers = options.spacing.prompt_tokens > 0;
  cache_ = TRY(KvCache::create(*backend_, hyperparams(), plan_.kv));
  if (options.make_runner) {
    runner_ = options.make_runner(limits_, hyperparams());
  } else {
    forward_ = TRY(ForwardPass::create(*backend_, *model_, *cache_, limits_, steering_.get()));
  }
  if (remembers) {
    std::unique_ptr<DiskStore> disk;
    if (!options.kv_disk_dir.empty()) {
      disk = TRY(DiskStore::open({.directory = options.kv_disk_dir,
                                  .budget_bytes = options.kv_disk_bytes,
                                  .identity = model_identity(*model_->file, layout, backend_->profile()),
                                  .page_bytes = layout.page_bytes}));
    }
    SessionOptions sessions = options.sessions;
    sessions.max_frontier_bytes = std::min(sessions.max_frontier_bytes, plan_.checkpoint_bytes);
    sessions_ = std::make_unique<SessionStore>(*cache_, tokenizer_.get(), sessions, std::move(disk));
  }
  SteeringContext steering{.has_directions = steering_ != nullptr, .directions = {}, .defaults = steering_settings_};
  if (steering_ != nullptr) steering.directions = hash_bytes(std::as_bytes(steering_->values()));
  StepRunner& runner = runner_ != nullptr ? *runner_ : *forward_;
  scheduler_ = std::make_unique<Scheduler>(runner, *cache_, tokenizer_.get(), sessions_.get(),
                                           SchedulerOptions{.prefill_chunk_tokens = chunk,
                                                            .mixed_chunk_tokens = options.mixed_chunk_tokens,
                                                            .n_vocab = hyperparams().n_vocab,
                                                            .first_seed = seed_from_time(),
                                                            .spacing = options.spacing,
                                                            .steering = steering});
  return {};
}

Result<GenerateRequest> Engine::prepare(const Conversation& conversation, RenderOptions options) const {
  if (tokenizer_ == nullptr) {
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: it computes token ids, not text",
                      model_->file->path());
  }
  options.format = chat_format_;
  const RenderedPrompt prompt = TRY(render(conversation, options));
  GenerateRequest request;
  request.prompt_tokens = tokenizer_->encode(prompt.segments);
  TRY(check_prompt_fits(request.prompt_tokens.size(), ctx_tokens()));
  request.output.starts_in_thinking = prompt.starts_in_thinking;
  request.output.tools_enabled = defines_tools(conversation);
  request.output.follows_tool_results = holds_tool_results(conversation);
  TRY(bind_rules(request));
  return request;
}

Result<void> Engine::bind_rules(GenerateRequest& request) const {
  if (rule_compiler_ != nullptr) {
    request.grammar = TRY(rule_compiler_->compile(request.output.rules, request.output.tools_enabled));
  }
  return {};
}

}  // namespace ds4
