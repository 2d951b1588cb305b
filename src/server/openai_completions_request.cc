#include <limits>
#include <utility>

#include "server/openai_completions.h"
#include "server/openai_rules.h"
#include "server/request_fields.h"

namespace ds4 {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // as the API has it
constexpr int64_t kMaxTopLogprobs = 20;
constexpr size_t kMaxPrompts = 128;

bool is_number(const JsonValue& value) {
  return value.kind == JsonValue::Kind::kScalar && value.text.find_first_of("0123456789") != std::string::npos;
}

class CompletionParser {
 public:
  CompletionParser(const JsonValue& body, const ServedModel& served) : fields_(body, "", problems_), served_(served) {}

  std::variant<CompletionRequest, ApiError> parse() && {
    request_.model = fields_.string("model").value_or(served_.id);
    parse_prompts();
    request_.max_tokens = read_max_tokens(fields_, "max_tokens").value_or(kDefaultMaxTokens);
    request_.n = read_n(fields_);
    read_sampling(fields_, request_.sampling);
    read_penalties(fields_, problems_, request_.sampling);
    read_stop_strings(fields_, "stop", request_.stop_strings);
    request_.echo = fields_.boolean("echo").value_or(false);
    request_.stream = fields_.boolean("stream").value_or(false);
    if (const JsonValue* options = fields_.object("stream_options")) {
      request_.include_usage = fields_.child("stream_options", *options).boolean("include_usage").value_or(false);
    }
    parse_logprobs();
    refuse_unsupported();
    if (!problems_.empty()) return problems_error(problems_);
    return std::move(request_);
  }

 private:
  void parse_prompts() {
    const JsonValue* prompt = fields_.find("prompt");
    if (prompt == nullptr) return fields_.problem("prompt", "missing");
    if (prompt->kind == JsonValue::Kind::kString) {
      request_.prompts.emplace_back(prompt->text);
      return;
    }
    if (prompt->kind != JsonValue::Kind::kArray) {
      return fields_.wrong_type("prompt", "a string, an array of strings, or token ids", *prompt);
    }
    if (prompt->items.empty()) return fields_.problem("prompt", "the array is empty");
    if (is_number(prompt->items.front())) return add_tokens("prompt", *prompt);
    if (prompt->items.size() > kMaxPrompts) {
      return fields_.problem("prompt", fmt::format("at most {} prompts, found {}", kMaxPrompts, prompt->items.size()));
    }
    for (size_t i = 0; i < prompt->items.size(); ++i) {
      const JsonValue& item = prompt->items[i];
      const std::string path = fmt::format("prompt[{}]", i);
      if (item.kind == JsonValue::Kind::kString) {
        request_.prompts.emplace_back(item.text);
      } else if (item.kind == JsonValue::Kind::kArray) {
        add_tokens(path, item);
      } else {
        fields_.wrong_type(path, "a string or an array of token ids", item);
      }
    }
  }

  void add_tokens(const std::string& path, const JsonValue& array) {
    std::vector<int32_t> tokens;
    if (read_token_ids(array, path, problems_, tokens)) request_.prompts.emplace_back(std::move(tokens));
  }

  void parse_logprobs() {
    const JsonValue* logprobs = fields_.find("logprobs");
    if (logprobs == nullptr) return;
    // Some clients send the chat API's switch.
    if (logprobs->kind == JsonValue::Kind::kScalar && (logprobs->text == "true" || logprobs->text == "false")) {
      if (logprobs->text == "true") request_.n_top_logprobs = 0;
    } else if (const auto n = fields_.integer("logprobs", 0, kMaxTopLogprobs)) {
      request_.n_top_logprobs = static_cast<int32_t>(*n);
    }
    if (request_.echo && request_.n_top_logprobs >= 0) {
      fields_.problem("logprobs", "not with echo: there are no log probabilities of prompt tokens");
    }
  }

  void refuse_unsupported() {
    const int64_t best_of = fields_.integer("best_of", 1, std::numeric_limits<int32_t>::max()).value_or(request_.n);
    if (best_of != request_.n) fields_.problem("best_of", "only the value of n is supported: every answer is returned");
    if (!fields_.string("suffix").value_or("").empty()) {
      fields_.problem("suffix", "filling in the middle is not supported: the model only continues a prompt");
    }
  }

  FieldProblems problems_;
  JsonFields fields_;
  const ServedModel& served_;
  CompletionRequest request_;
};

}  // namespace

std::variant<CompletionRequest, ApiError> parse_completion_request(std::string body, const ServedModel& served) {
  const auto json = parse_json_object(std::move(body));
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  return CompletionParser(std::get<JsonValue>(json), served).parse();
}

}  // namespace ds4
