#include "tools/bench/subject.h"

#include <filesystem>

#include "backends/cpu/cpu_backend.h"
#include "model/synthetic_weights.h"
#include "quant/recipe.h"
#include "text/vocabulary_metadata.h"
#include "tools/common/model_path.h"

namespace ds4 {

namespace {

Result<std::unique_ptr<Backend>> make_backend(const SubjectOptions& options) {
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
  return make_synthetic_file(hyperparams, description, backend, threads);
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
  subject.model = TRY(Model::load(std::move(file), *subject.backend));
  subject.load_us = clock.elapsed_us(since_us);
  if (const std::string& directions = options.engine.steering.file; !directions.empty())
    subject.steering = TRY(Steering::load(directions, subject.hyperparams(), *subject.backend));
  subject.cost = model_cost(*subject.model->file, subject.hyperparams());
  return subject;
}

}  // namespace ds4
