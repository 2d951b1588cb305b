#include "text/vocabulary_metadata.h"

#include <algorithm>
#include <array>
#include <limits>

namespace ds4 {
namespace {

constexpr std::string_view kModelKey = "tokenizer.ggml.model";
constexpr std::string_view kPreKey = "tokenizer.ggml.pre";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kTypesKey = "tokenizer.ggml.token_type";
constexpr std::string_view kMergesKey = "tokenizer.ggml.merges";
constexpr std::string_view kBosKey = "tokenizer.ggml.bos_token_id";
constexpr std::string_view kEosKey = "tokenizer.ggml.eos_token_id";
constexpr std::string_view kPaddingKey = "tokenizer.ggml.padding_token_id";
constexpr std::string_view kAddBosKey = "tokenizer.ggml.add_bos_token";

constexpr std::string_view kModel = "gpt2";
constexpr std::string_view kPre = "joyai-llm";
// Other names for the same three expressions.
constexpr std::array<std::string_view, 2> kOtherPres{"deepseek-v3", "hunyuan-dense"};

// Adds the error of a failed look-up to the problems.
template <class T>
T value_or_problem(Result<T> result, ProblemList& problems) {
  if (result.ok()) return std::move(result).value();
  problems.add("{}", result.error().message);
  return T{};
}

void check_kind(const Metadata& metadata, ProblemList& problems) {
  const auto model = metadata.get_string(kModelKey);
  if (!model.ok()) {
    problems.add("{}", model.error().message);
  } else if (model.value() != kModel) {
    problems.add("{}: expected \"{}\", found \"{}\"", kModelKey, kModel, model.value());
  }
  if (!metadata.contains(kPreKey)) return;
  const auto pre = metadata.get_string(kPreKey);
  if (!pre.ok()) {
    problems.add("{}", pre.error().message);
  } else if (pre.value() != kPre && std::ranges::find(kOtherPres, pre.value()) == kOtherPres.end()) {
    problems.add("{}: expected \"{}\", \"{}\" or \"{}\", found \"{}\"", kPreKey, kPre, kOtherPres[0], kOtherPres[1],
                 pre.value());
  }
}

std::vector<std::string> to_strings(const std::vector<std::string_view>& views) { return {views.begin(), views.end()}; }

}  // namespace

Result<VocabularyData> vocabulary_from_metadata(const Metadata& metadata) {
  ProblemList problems;
  check_kind(metadata, problems);
  VocabularyData data;
  data.tokens = to_strings(value_or_problem(metadata.get_string_array(kTokensKey), problems));
  data.merges = to_strings(value_or_problem(metadata.get_string_array(kMergesKey), problems));
  if (metadata.contains(kTypesKey)) {
    for (const int64_t type : value_or_problem(metadata.get_int_array(kTypesKey), problems)) {
      // A value that no token type has stays one.
      data.token_types.push_back(static_cast<int32_t>(std::clamp<int64_t>(type, -1, 1 << 30)));
    }
  }
  if (!problems.empty()) return problems.to_result(ErrorCode::kUnsupported, "tokenizer metadata").take_error();
  return data;
}

void store_vocabulary(const VocabularyData& data, Metadata& metadata) {
  metadata.set_string(kModelKey, kModel);
  metadata.set_string(kPreKey, kPre);
  metadata.set_string_array(kTokensKey, data.tokens);
  if (!data.token_types.empty()) metadata.set_i32_array(kTypesKey, data.token_types);
  metadata.set_string_array(kMergesKey, data.merges);
  const auto store_id = [&](std::string_view key, ControlToken token) {
    const auto found = std::ranges::find(data.tokens, control_token_text(token));
    if (found != data.tokens.end()) metadata.set_u32(key, static_cast<uint32_t>(found - data.tokens.begin()));
  };
  store_id(kBosKey, ControlToken::kBos);
  store_id(kEosKey, ControlToken::kEos);
  store_id(kPaddingKey, ControlToken::kEos);
  metadata.set_bool(kAddBosKey, false);
}

}  // namespace ds4
