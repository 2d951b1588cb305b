#include <map>

#include "backends/capabilities.h"
#include "engine/engine.h"
#include "gguf/reader.h"
#include "model/weight_table.h"
#include "model/weights.h"
#include "quant/recipe.h"
#include "tools/gguf/commands.h"

namespace ds4 {

namespace {

constexpr size_t kMaxShownElements = 12;
constexpr size_t kMaxShownText = 120;

struct Amount {
  size_t n_tensors = 0;
  uint64_t size_bytes = 0;
};

std::string type_name(const TensorInfo& tensor) {
  return tensor.type ? std::string(dtype_name(*tensor.type)) : ggml_type_name(tensor.ggml_type);
}

void print_metadata(const Metadata& metadata) {
  fmt::print("\nmetadata\n");
  for (const MetadataEntry& entry : metadata.entries()) {
    std::string text = entry.value.to_text(kMaxShownElements);
    if (text.size() > kMaxShownText) text = text.substr(0, text.find_last_of(" ,", kMaxShownText)) + " ...";
    fmt::print("  {:<52} {}\n", entry.key, text);
  }
}

// Null: not in the weight table.
const WeightSpec* spec_of(std::string_view name) {
  if (name.starts_with("blk.")) name = name.substr(std::min(name.find('.', 4) + 1, name.size()));
  for (const WeightSpec& spec : weight_table()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

// "experts down" for names in the weight table, "other" for the rest.
std::string_view group_of(std::string_view name) {
  const WeightSpec* spec = spec_of(name);
  if (spec == nullptr) return "other";
  return spec->use == WeightUse::kTokenTable ? "token table" : weight_group_name(weight_group(*spec));
}

void print_tensor_summary(const GgufFile& file) {
  std::map<std::pair<std::string_view, std::string>, Amount> amounts;
  for (const TensorInfo& tensor : file.tensors()) {
    Amount& amount = amounts[{group_of(tensor.name), type_name(tensor)}];
    ++amount.n_tensors;
    amount.size_bytes += tensor.size_bytes;
  }
  fmt::print("\ntensors: {}\n  {:<20} {:<8} {:>7} {:>12}\n", file.tensors().size(), "group", "type", "count", "MB");
  for (const auto& [key, amount] : amounts) {
    fmt::print("  {:<20} {:<8} {:>7} {:>12.1f}\n", key.first, key.second, amount.n_tensors,
               static_cast<double>(amount.size_bytes) / 1e6);
  }
}

void print_tensors(const GgufFile& file) {
  fmt::print("\n");
  for (const TensorInfo& tensor : file.tensors()) {
    fmt::print("  {:<44} {:<8} {:<22} {:>12} bytes at {}\n", tensor.name, type_name(tensor), tensor.shape.to_string(),
               tensor.size_bytes, tensor.offset_bytes);
  }
}

void check_tokenizer(const GgufFile& file, const Hyperparams& hyperparams, ProblemList& problems) {
  const auto tokenizer = load_tokenizer(file);
  if (!tokenizer.ok()) {
    problems.add("{}", tokenizer.error().message);
  } else if (tokenizer.value() != nullptr && tokenizer.value()->n_vocab() > hyperparams.n_vocab) {
    problems.add("the vocabulary has {} tokens, the model only {}", tokenizer.value()->n_vocab(), hyperparams.n_vocab);
  }
}

// What of the file the backend takes, by use and type.
void print_support(const GgufFile& file, const WeightSupport& support) {
  std::map<std::pair<std::string, std::string_view>, std::pair<Amount, bool>> amounts;
  for (const TensorInfo& tensor : file.tensors()) {
    const WeightSpec* spec = spec_of(tensor.name);
    if (spec == nullptr) continue;
    auto& [amount, is_taken] = amounts[{type_name(tensor), group_of(tensor.name)}];
    ++amount.n_tensors;
    amount.size_bytes += tensor.type && support.backend == "cuda" ? cuda_weight_bytes(*tensor.type, tensor.size_bytes)
                                                                  : tensor.size_bytes;
    is_taken = tensor.type && accepts_type(*spec, *tensor.type, support);
  }
  fmt::print("\non {}\n  {:<8} {:<20} {:>7} {:>12}  {}\n", support.backend, "type", "group", "count", "MB there",
             "taken");
  for (const auto& [key, value] : amounts) {
    fmt::print("  {:<8} {:<20} {:>7} {:>12.1f}  {}\n", key.first, key.second, value.first.n_tensors,
               static_cast<double>(value.first.size_bytes) / 1e6, value.second ? "yes" : "NO");
  }
}

Result<void> check_loads(const GgufFile& file, const WeightSupport& support) {
  const std::string subject = fmt::format("{} does not load on {}", file.path(), support.backend);
  auto hyperparams = Hyperparams::read(file.metadata());
  // Without sizes no tensor can be judged.
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), subject);
  ProblemList problems;
  for (const std::string& problem : find_weight_problems(file, hyperparams.value(), support)) {
    problems.add("{}", problem);
  }
  check_tokenizer(file, hyperparams.value(), problems);
  return problems.to_result(ErrorCode::kUnsupported, subject);
}

}  // namespace

Result<void> run_inspect(const InspectOptions& options) {
  if (options.backend != "cpu" && options.backend != "cuda") {
    return make_error(ErrorCode::kInvalidArgument, "--backend: expected cpu or cuda, found '{}'", options.backend);
  }
  // Needs neither a device nor a program that was built for one.
  const WeightSupport support = options.backend == "cuda" ? cuda_weight_support() : cpu_weight_support();
  const std::unique_ptr<GgufFile> file = TRY(GgufFile::open(options.path));
  fmt::print("{}: {:.1f} MB\n", file->path(), static_cast<double>(file->file_size_bytes()) / 1e6);
  print_metadata(file->metadata());
  print_tensor_summary(*file);
  if (options.all_tensors) print_tensors(*file);
  if (options.backend != "cpu") print_support(*file, support);
  TRY(check_loads(*file, support));
  fmt::print("\nloads on {}: yes\n", support.backend);
  return {};
}

}  // namespace ds4
