#include "tools/bench/subject.h"

#include <filesystem>

#include "backends/cpu/cpu_backend.h"
#include "base/system_memory.h"
#include "model/synthetic_weights.h"
#include "quant/recipe.h"
#include "text/vocabulary_metadata.h"
#include "tools/common/backend_choice.h"
#include "tools/common/model_path.h"
#include "tools/common/progress_line.h"

namespace ds4 {

namespace {

Result<std::unique_ptr<Backend>> make_backend(const SubjectOptions& options) {
  if (options.engine.device_kind != DeviceKind::kCpu) return make_chosen_backend(options.engine);
  CpuBackendOptions cpu{.threads = options.engine.n_threads,
                        .pin_threads = options.engine.pin_threads,
                        .profile = options.engine.profile};
  std::string names;
  for (const cpu::Isa isa : cpu::available_isas()) {
    if (cpu::isa_name(isa) == options.isa) cpu.isa = isa;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", cpu::isa_name(isa));
  }
  if (!options.isa.empty() && !cpu.isa) {
    return make_error(ErrorCode::kInvalidArgument, "--isa: expected one of {}, found '{}'", names, options.isa);
  }
  return make_cpu_backend(cpu);
}

Result<std::unique_ptr<GgufFile>> make_file(const SubjectOptions& options, Backend& backend, ThreadPool& threads) {
  const SyntheticShape shape = TRY(named_synthetic_shape(options.synthetic));
  const Hyperparams hyperparams = TRY(synthetic_hyperparams(shape));
  const Recipe* recipe = TRY(find_recipe(options.recipe));
  std::vector<TypeOverride> overrides;
  for (const std::string& text : options.type_overrides) overrides.push_back(TRY(parse_type_override(text)));
  const std::vector<ExpectedTensor> tensors = expected_tensors(hyperparams);

  SyntheticFile description;
  description.types = TRY(plan_types(tensors, *recipe, overrides)).types;
  description.metadata.set_string("general.name", fmt::format("synthetic {} {}", options.synthetic, options.recipe));
  description.metadata.set_u32("general.file_type", recipe->file_type);
  description.metadata.set_u32("general.quantization_version", 2);
  store_vocabulary(byte_level_vocabulary(static_cast<size_t>(hyperparams.n_vocab)), description.metadata);
  // A device makes its own.
  if (backend.device_memory()) return make_generated_file(hyperparams, description);
  return make_synthetic_file(hyperparams, description, backend, threads);
}

// Refuses what a device cannot hold before anything is brought there.
Result<void> check_fits(const SubjectOptions& options, const GgufFile& file, Backend& backend) {
  const std::optional<DeviceMemory> memory = backend.device_memory();
  if (!memory || options.plan_ctx_tokens == 0) return {};
  auto hyperparams = Hyperparams::read(file.metadata());
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), file.path());
  const Hyperparams& h = hyperparams.value();
  const KvLayout layout = KvLayout::compute(h, backend.profile());
  const ForwardLimits limits{.batch_rows = options.plan_chunk_tokens + options.plan_slots,
                             .logits_rows = options.plan_slots};
  const auto n_pages = static_cast<uint64_t>((options.plan_ctx_tokens + kPageTokens - 1) / kPageTokens);
  MemoryRequest request{.page_bytes = layout.page_bytes,
                        .frontier_bytes = layout.frontier_bytes,
                        .scratch_bytes = Activations::size_bytes(h, layout, limits),
                        .weight_bytes = placed_weight_bytes(file, h, backend),
                        .expert_bytes = placed_expert_bytes(file, h, backend),
                        .weights_are_mapped = false,
                        .device = fmt::format("{} device {}", backend.name(), options.engine.device),
                        .workspace_bytes = device_workspace_bytes(h, limits, options.plan_ctx_tokens),
                        .ctx_tokens = options.plan_ctx_tokens,
                        .n_slots = options.plan_slots,
                        .remembers = false,
                        .kv_bytes = n_pages * layout.page_bytes * static_cast<uint64_t>(options.plan_slots),
                        .available_bytes = memory->free_bytes,
                        .host_bytes = available_memory_bytes()};
  const std::string limited = TRY(limit_experts(options.engine.expert_device_bytes, backend, request));
  if (!limited.empty()) fmt::print(stderr, "ds4-bench: {}\n", limited);
  TRY(plan_memory(request));
  return {};
}

std::string model_name(const GgufFile& file) {
  const Result<std::string_view> name = file.metadata().get_string("general.name");
  return name.ok() ? std::string(name.value()) : std::filesystem::path(file.path()).stem().string();
}

ChatFormat chat_format(const GgufFile& file, const EngineOptions& options) {
  const Result<std::string_view> name = file.metadata().get_string("ds4.chat_format");
  const auto stored = name.ok() ? chat_format_from_name(name.value()) : std::nullopt;
  return options.chat_format.value_or(stored.value_or(ChatFormat::kPreview));
}

}  // namespace

int Subject::expert_bits() const {
  const DTypeInfo& info = dtype_info(model->weights.layers[0].ffn_gate_exps.type);
  return static_cast<int>(8 * info.block_bytes / info.block_elements);
}

Result<Subject> load_subject(const SubjectOptions& options, const Clock& clock) {
  Subject subject;
  subject.steering_settings = TRY(options.engine.steering.settings());
  subject.backend = TRY(make_backend(options));
  std::unique_ptr<GgufFile> file;
  int64_t since_us = clock.now_us();
  if (options.synthetic.empty()) {
    const std::string path = TRY(resolve_model_path(options.engine.model_path));
    file = TRY(GgufFile::open(path));
  } else {
    ThreadPool threads(options.engine.n_threads);
    file = TRY(make_file(options, *subject.backend, threads));
    subject.recipe = options.recipe;
    subject.make_us = clock.elapsed_us(since_us);
    since_us = clock.now_us();
  }
  if (!options.save_path.empty()) {
    TRY(save_gguf_file(*file, options.save_path));
    subject.save_us = clock.elapsed_us(since_us);
    since_us = clock.now_us();
  }
  subject.name = model_name(*file);
  subject.chat_format = chat_format(*file, options.engine);
  subject.tokenizer = TRY(load_tokenizer(*file));
  TRY(check_fits(options, *file, *subject.backend));
  subject.model = TRY(Model::load(std::move(file), *subject.backend, show_load_progress("ds4-bench")));
  subject.load_us = clock.elapsed_us(since_us);
  if (const std::string& directions = options.engine.steering.file; !directions.empty())
    subject.steering = TRY(Steering::load(directions, subject.hyperparams(), *subject.backend));
  subject.cost = model_cost(*subject.model->file, subject.hyperparams());
  return subject;
}

}  // namespace ds4
