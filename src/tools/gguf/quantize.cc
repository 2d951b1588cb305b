#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include <fmt/ranges.h>

#include "base/file.h"
#include "quant/imatrix.h"
#include "quant/quantize_model.h"
#include "tools/gguf/commands.h"
#include "tools/gguf/model_input.h"
#include "tools/gguf/progress_bar.h"
#include "tools/gguf/types.h"

namespace ds4 {

namespace {

using Json = nlohmann::ordered_json;

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

// What a reader of the file may want to know about how it was made; nothing of the machine it was made on.
void write_provenance(const QuantizeCommandOptions& options, const ModelInput& input, const Imatrix* imatrix,
                      Metadata& metadata) {
  metadata.set_string("quantize.recipe", options.types.recipe);
  std::vector<std::string> overrides;
  for (const std::string& text : options.types.layers) overrides.push_back("layers " + text);
  for (const std::string& text : options.types.overrides) overrides.push_back("type " + text);
  if (!overrides.empty()) metadata.set_string_array("quantize.overrides", overrides);
  metadata.set_u32("quantize.version", kQuantizerVersion);
  metadata.set_string("quantize.source.fingerprint", fmt::format("{:016x}", input.model->fingerprint()));
  if (imatrix == nullptr) return;
  metadata.set_string("quantize.imatrix.file", file_name(options.imatrix_path));
  metadata.set_string("quantize.imatrix.dataset", fmt::format("{}", fmt::join(imatrix->datasets, ", ")));
  metadata.set_u64("quantize.imatrix.entries_count", imatrix->entries.size());
  metadata.set_u64("quantize.imatrix.chunks_count", static_cast<uint64_t>(imatrix->n_chunks));
}

struct Amount {
  size_t n_tensors = 0;
  int64_t n_elements = 0;
  uint64_t size_bytes = 0;
  TensorError error;
};

double bits_per_weight(uint64_t size_bytes, int64_t n_elements) {
  return static_cast<double>(size_bytes) * 8 / static_cast<double>(n_elements);
}

// Per group and type, in the order of the first tensor. Without errors: a plan.
void print_amounts(const QuantizePlan& plan, const std::vector<TensorError>* errors) {
  std::vector<std::pair<std::string_view, DType>> order;
  std::map<std::pair<std::string_view, DType>, Amount> amounts;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    const std::pair key(tensor.group, tensor.type);
    if (!amounts.contains(key)) order.push_back(key);
    Amount& amount = amounts[key];
    ++amount.n_tensors;
    amount.n_elements += tensor.shape.elements();
    amount.size_bytes += tensor.size_bytes;
    if (errors != nullptr) amount.error += (*errors)[i];
  }
  fmt::print("{:<18} {:<8} {:>7} {:>12} {:>8}{}\n", "group", "type", "count", "MB", "bits",
             errors != nullptr ? "   error, weighted" : "");
  Amount total;
  for (const auto& key : order) {
    const Amount& amount = amounts[key];
    fmt::print("{:<18} {:<8} {:>7} {:>12.1f} {:>8.3f}", key.first, dtype_name(key.second), amount.n_tensors,
               static_cast<double>(amount.size_bytes) / 1e6, bits_per_weight(amount.size_bytes, amount.n_elements));
    if (errors != nullptr) {
      fmt::print(" {:>7.4f} {:>9.4f}", amount.error.relative_rmse(), amount.error.weighted_relative_rmse());
    }
    fmt::print("\n");
    total.n_tensors += amount.n_tensors;
    total.n_elements += amount.n_elements;
    total.size_bytes += amount.size_bytes;
  }
  fmt::print("{:<27} {:>7} {:>12.1f} {:>8.3f}\n", "total", total.n_tensors, static_cast<double>(total.size_bytes) / 1e6,
             bits_per_weight(total.size_bytes, total.n_elements));
}

void print_tensors(const QuantizePlan& plan, const std::vector<TensorError>* errors) {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = plan.tensors[i];
    fmt::print("{:<44} {:<8} {:<22} {:>12} bytes{}", tensor.name, dtype_name(tensor.type), tensor.shape.to_string(),
               tensor.size_bytes, tensor.has_importance ? " weighted" : "");
    if (errors != nullptr) fmt::print(" error {:.4f}", (*errors)[i].weighted_relative_rmse());
    fmt::print("\n");
  }
}

Result<void> write_report(const QuantizeCommandOptions& options, const ModelInput& input,
                          const QuantizeReport& report) {
  Json tensors = Json::array();
  for (size_t i = 0; i < report.plan.tensors.size(); ++i) {
    const PlannedTensor& tensor = report.plan.tensors[i];
    tensors.push_back({{"name", tensor.name},
                       {"group", tensor.group},
                       {"type", dtype_name(tensor.type)},
                       {"shape", std::vector<int64_t>(tensor.shape.extents().begin(), tensor.shape.extents().end())},
                       {"bytes", tensor.size_bytes},
                       {"has_importance", tensor.has_importance},
                       {"relative_rmse", report.errors[i].relative_rmse()},
                       {"weighted_relative_rmse", report.errors[i].weighted_relative_rmse()}});
  }
  const Json root = {{"source", file_name(options.source_path)},
                     {"source_fingerprint", fmt::format("{:016x}", input.model->fingerprint())},
                     {"output", file_name(options.output_path)},
                     {"recipe", options.types.recipe},
                     {"layers", options.types.layers},
                     {"types", options.types.overrides},
                     {"imatrix", options.imatrix_path.empty() ? Json() : Json(file_name(options.imatrix_path))},
                     {"quantizer_version", kQuantizerVersion},
                     {"file_bytes", report.plan.file_size_bytes},
                     {"tensors", std::move(tensors)}};
  const std::string text = root.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  return atomic_write(options.report_path, std::as_bytes(std::span(text)));
}

void print_notes(const ModelInput& input, const QuantizePlan& plan, bool has_imatrix) {
  print_fallbacks(plan.fallbacks);
  const std::string lossy = input.model->lossy_types();
  if (!lossy.empty()) fmt::print("note: the source itself is quantised ({})\n", lossy);
  if (!has_imatrix) return;
  size_t n_quantised = 0;
  size_t n_known = 0;
  for (const PlannedTensor& tensor : plan.tensors) {
    if (dtype_info(tensor.type).block_elements == 1) continue;
    ++n_quantised;
    if (tensor.has_importance) ++n_known;
  }
  fmt::print("importance: known for {} of {} quantised tensors\n", n_known, n_quantised);
}

}  // namespace

Result<void> run_quantize(const QuantizeCommandOptions& options) {
  ChosenTypes types = TRY(choose_types(options.types));
  ModelInput input = TRY(open_model_input(options, *types.recipe));
  std::optional<Imatrix> imatrix;
  if (!options.imatrix_path.empty()) imatrix = TRY(read_imatrix(options.imatrix_path));
  QuantizeOptions quantize{.recipe = types.recipe,
                           .overrides = std::move(types.overrides),
                           .imatrix = imatrix ? &*imatrix : nullptr,
                           .metadata = std::move(input.metadata),
                           .threads = options.n_threads,
                           .restart = options.restart,
                           .progress = {}};
  write_provenance(options, input, quantize.imatrix, quantize.metadata);
  if (options.dry_run) {
    const QuantizePlan plan = TRY(plan_model(*input.model, quantize));
    if (options.list_tensors) print_tensors(plan, nullptr);
    print_amounts(plan, nullptr);
    print_notes(input, plan, imatrix.has_value());
    fmt::print("would write {}: {:.1f} MB\n", options.output_path, static_cast<double>(plan.file_size_bytes) / 1e6);
    return {};
  }
  QuantizeReport report;
  {
    ProgressBar bar;
    quantize.progress = [&bar](const QuantizeProgress& progress) { bar.show(progress); };
    report = TRY(quantize_model(*input.model, quantize, options.output_path));
  }
  if (options.list_tensors) print_tensors(report.plan, &report.errors);
  print_amounts(report.plan, &report.errors);
  print_notes(input, report.plan, imatrix.has_value());
  if (!options.report_path.empty()) TRY(write_report(options, input, report));
  print_written(options.output_path, report.plan.tensors.size());
  return {};
}

}  // namespace ds4
