#include "tools/score/reference_file.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/float_formats.h"
#include "engine/sampler.h"
#include "gguf/dequantize.h"

namespace ds4 {

namespace {

constexpr std::string_view kKindKey = "general.type";
constexpr std::string_view kKind = "logits";
constexpr std::string_view kModelKey = "logits.model";
constexpr std::string_view kVocabKey = "logits.vocabulary";
constexpr std::string_view kTopKKey = "logits.top_k";
constexpr std::string_view kCtxKey = "logits.ctx";
constexpr std::string_view kStrideKey = "logits.stride";
constexpr std::string_view kContextOnlyKey = "logits.context_only";
constexpr std::string_view kTokensKey = "logits.tokens";
constexpr std::string_view kScoredKey = "logits.scored";
constexpr float kLeastF16 = -65504.0f;
constexpr int64_t kMaxTokens = int64_t{1} << 32;

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

}  // namespace

Result<ReferenceWriter> ReferenceWriter::create(const std::string& path, const ReferenceInfo& info,
                                                const TextPlan& plan) {
  GgufWriter writer = TRY(GgufWriter::create(path));
  Metadata& metadata = writer.metadata();
  metadata.set_string(kKindKey, kKind);
  metadata.set_string(kModelKey, info.model_name);
  metadata.set_i32(kVocabKey, info.n_vocab);
  metadata.set_i32(kTopKKey, info.top_k);
  metadata.set_i32(kCtxKey, plan.options.ctx);
  metadata.set_i32(kStrideKey, plan.options.stride);
  metadata.set_i32(kContextOnlyKey, plan.options.context_only);
  metadata.set_u64(kTokensKey, plan.tokens.size());
  metadata.set_u64(kScoredKey, static_cast<uint64_t>(plan.n_scored));
  const int64_t width = info.top_k == 0 ? info.n_vocab : info.top_k;
  TRY(writer.add_tensor("tokens", DType::kI32, {std::ssize(plan.tokens)}));
  TRY(writer.add_tensor("logits", DType::kF16, {plan.n_scored, width}));
  if (info.top_k > 0) TRY(writer.add_tensor("ids", DType::kI32, {plan.n_scored, width}));
  for (const char* name : {"largest", "log_sum_exp", "nll"}) {
    TRY(writer.add_tensor(name, DType::kF32, {plan.n_scored}));
  }
  TRY(writer.write_tensor_data(bytes_of(plan.tokens)));
  return ReferenceWriter(std::move(writer), info.top_k);
}

Result<void> ReferenceWriter::add(std::span<const float> logits, double nll) {
  const float largest = *std::ranges::max_element(logits);
  std::vector<uint16_t> row;
  const auto append = [&](float logit) { row.push_back(f32_to_f16(std::max(logit - largest, kLeastF16))); };
  if (top_k_ == 0) {
    row.reserve(logits.size());
    std::ranges::for_each(logits, append);
  }
  for (const int32_t id : top_k_ == 0 ? std::vector<int32_t>() : top_ids(logits, top_k_)) {
    ids_.push_back(id);
    append(logits[static_cast<size_t>(id)]);
  }
  largest_.push_back(largest);
  log_sum_exp_.push_back(static_cast<float>(log_sum_exp(logits) - largest));
  nll_.push_back(static_cast<float>(nll));
  return writer_.write_tensor_data(bytes_of(row));
}

Result<void> ReferenceWriter::finish() {
  if (top_k_ > 0) TRY(writer_.write_tensor_data(bytes_of(ids_)));
  for (const std::vector<float>* values : {&largest_, &log_sum_exp_, &nll_}) {
    TRY(writer_.write_tensor_data(bytes_of(*values)));
  }
  return writer_.finish();
}

Result<ReferenceFile> ReferenceFile::open(const std::string& path) { return from_gguf(TRY(GgufFile::open(path))); }

Result<ReferenceFile> ReferenceFile::from_gguf(std::unique_ptr<GgufFile> file) {
  const std::string path = file->path();
  const auto kind = file->metadata().get_string(kKindKey);
  if (!kind.ok() || kind.value() != kKind) {
    return make_error(ErrorCode::kCorrupt, "{}: no saved logits: key {} is not '{}'", path, kKindKey, kKind);
  }
  ReferenceFile reference(std::move(file));
  ProblemList problems;
  reference.read_metadata(problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, path));
  reference.find_tensors(problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, path));
  reference.check_values(problems);
  TRY(problems.to_result(ErrorCode::kCorrupt, path));
  return reference;
}

void ReferenceFile::read_metadata(ProblemList& problems) {
  const Metadata& metadata = file_->metadata();
  const auto integer = [&](std::string_view key, int64_t least, int64_t most) {
    const auto value = metadata.get_int(key);
    if (value.ok() && value.value() >= least && value.value() <= most) return value.value();
    problems.add("key {}: expected an integer from {} to {}", key, least, most);
    return least;
  };
  const auto name = metadata.get_string(kModelKey);
  if (name.ok()) info_.model_name = name.value();
  info_.n_vocab = static_cast<int32_t>(integer(kVocabKey, kTopMany, INT32_MAX));
  info_.top_k = static_cast<int32_t>(integer(kTopKKey, 0, info_.n_vocab));
  if (info_.top_k > 0 && info_.top_k < kTopMany) problems.add("key {}: expected 0 or at least {}", kTopKKey, kTopMany);
  options_.ctx = static_cast<int32_t>(integer(kCtxKey, 2, INT32_MAX));
  options_.stride = static_cast<int32_t>(integer(kStrideKey, 1, INT32_MAX));
  options_.context_only = static_cast<int32_t>(integer(kContextOnlyKey, 1, INT32_MAX));
  n_tokens_ = integer(kTokensKey, 2, kMaxTokens);
  n_scored_ = integer(kScoredKey, 1, kMaxTokens);
}

TensorView ReferenceFile::find(std::string_view name, DType type, const Shape& shape, ProblemList& problems) const {
  const TensorInfo* info = file_->find(name);
  if (info == nullptr || info->type != type || !(info->shape == shape)) {
    problems.add("tensor {}: expected {} {}, found {}", name, dtype_name(type), shape.to_string(),
                 info == nullptr ? "none" : ggml_type_name(info->ggml_type) + " " + info->shape.to_string());
    return {};
  }
  return file_->view(*info);
}

void ReferenceFile::find_tensors(ProblemList& problems) {
  const int64_t width = info_.top_k == 0 ? info_.n_vocab : info_.top_k;
  tokens_ = find("tokens", DType::kI32, {n_tokens_}, problems);
  logits_ = find("logits", DType::kF16, {n_scored_, width}, problems);
  if (info_.top_k > 0) ids_ = find("ids", DType::kI32, {n_scored_, width}, problems);
  largest_ = find("largest", DType::kF32, {n_scored_}, problems);
  log_sum_exp_ = find("log_sum_exp", DType::kF32, {n_scored_}, problems);
  nll_ = find("nll", DType::kF32, {n_scored_}, problems);
}

void ReferenceFile::check_values(ProblemList& problems) const {
  for (const auto& [name, view] : {std::pair("tokens", tokens_), std::pair("ids", ids_)}) {
    if (!view) continue;
    const std::span ids(view.i32(), static_cast<size_t>(view.elements()));
    const auto bad = std::ranges::find_if(ids, [&](int32_t id) { return id < 0 || id >= info_.n_vocab; });
    if (bad != ids.end()) {
      problems.add("tensor {}: element {}: expected an id below {}, found {}", name, bad - ids.begin(), info_.n_vocab,
                   *bad);
    }
  }
  for (const auto& [name, view] :
       {std::pair("largest", largest_), std::pair("log_sum_exp", log_sum_exp_), std::pair("nll", nll_)}) {
    if (count_nonfinite(values(view)) > 0) problems.add("tensor {}: expected finite values only", name);
  }
}

Result<TextPlan> ReferenceFile::plan(int32_t max_step_tokens) const {
  const std::span tokens(tokens_.i32(), static_cast<size_t>(n_tokens_));
  auto plan = plan_text({tokens.begin(), tokens.end()}, options_, max_step_tokens);
  if (!plan.ok()) return with_context(plan.take_error(), file_->path());
  if (plan.value().n_scored != n_scored_) {
    return make_error(ErrorCode::kCorrupt, "{}: {} positions, its text gives {}", file_->path(), n_scored_,
                      plan.value().n_scored);
  }
  return plan;
}

Result<ReferenceRow> ReferenceFile::row(int64_t i) {
  const int64_t width = logits_.shape[1];
  row_.resize(static_cast<size_t>(width));
  dequantize_row(DType::kF16, logits_.rows(i, 1).data<std::byte>(), row_.data(), width);
  const float largest = values(largest_)[static_cast<size_t>(i)];
  for (float& logit : row_) logit += largest;
  if (count_nonfinite(row_) > 0) {
    return make_error(ErrorCode::kCorrupt, "{}: position {}: a logit is not finite", file_->path(), i);
  }
  ReferenceRow row{.ids = {}, .logits = row_, .log_sum_exp = 0};
  if (ids_) {
    row.ids = {ids_.rows(i, 1).i32(), static_cast<size_t>(width)};
    row.log_sum_exp = static_cast<double>(largest) + values(log_sum_exp_)[static_cast<size_t>(i)];
  } else {
    row.log_sum_exp = log_sum_exp(row_);
  }
  return row;
}

}  // namespace ds4
