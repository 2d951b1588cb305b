#include "server/request_fields.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

namespace ds4 {
namespace {

constexpr size_t kMaxShownProblems = 8;
constexpr size_t kMaxStopStrings = 16;

struct Effort {
  std::string_view name;
  ReasoningEffort effort;
};

constexpr std::string_view kNoEffort = "none";
constexpr std::array kEfforts{
    Effort{kNoEffort, ReasoningEffort::kDefault}, Effort{"minimal", ReasoningEffort::kDefault},
    Effort{"low", ReasoningEffort::kDefault},     Effort{"medium", ReasoningEffort::kDefault},
    Effort{"high", ReasoningEffort::kHigh},       Effort{"xhigh", ReasoningEffort::kMax},
    Effort{"max", ReasoningEffort::kMax},
};

const Effort* find_effort(std::string_view name) {
  const auto* found = std::ranges::find(kEfforts, name, &Effort::name);
  return found == kEfforts.end() ? nullptr : found;
}

}  // namespace

std::variant<JsonValue, ApiError> parse_json_object(std::string body) {
  Result<JsonValue> json = parse_json_body(std::move(body));
  if (!json.ok()) return ApiError{.status = 400, .message = json.error().message};
  if (json.value().kind == JsonValue::Kind::kObject) return json.take_value();
  return ApiError{.status = 400,
                  .message = fmt::format("the body must be a JSON object, found {}", json_kind_name(json.value()))};
}

ApiError problems_error(const FieldProblems& problems) {
  ApiError error{.status = 400, .message = {}, .param = problems.front().param};
  for (size_t i = 0; i < std::min(problems.size(), kMaxShownProblems); ++i) {
    if (i > 0) error.message += "; ";
    error.message += fmt::format("{}: {}", problems[i].param, problems[i].message);
  }
  if (problems.size() > kMaxShownProblems) {
    error.message += fmt::format("; and {} more problems", problems.size() - kMaxShownProblems);
  }
  return error;
}

Message make_message(Role role, std::string content) {
  Message message;
  message.role = role;
  message.content = std::move(content);
  return message;
}

void read_sampling(JsonFields& fields, SamplingParams& sampling) {
  const auto number = [&fields](std::string_view key, double max, float& value) {
    value = static_cast<float>(fields.number(key, 0, max).value_or(value));
  };
  number("temperature", 2, sampling.temperature);
  number("top_p", 1, sampling.top_p);
  number("min_p", 1, sampling.min_p);
  // To the sampler 0 means off; to a client, the likeliest token alone.
  sampling.top_p = std::max(sampling.top_p, std::numeric_limits<float>::min());
  // -1 is another way to say off.
  const int64_t top_k = fields.integer("top_k", -1, std::numeric_limits<int32_t>::max()).value_or(sampling.top_k);
  sampling.top_k = static_cast<int32_t>(std::max<int64_t>(top_k, 0));
  const auto seed = fields.integer("seed", std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max());
  if (seed) sampling.seed = static_cast<uint64_t>(*seed);
}

void read_stop_strings(JsonFields& fields, std::string_view key, std::vector<std::string>& stop_strings) {
  const JsonValue* stop = fields.find(key);
  if (stop == nullptr) return;
  if (stop->kind == JsonValue::Kind::kString) {
    if (!stop->text.empty()) stop_strings.push_back(stop->text);
    return;
  }
  if (stop->kind != JsonValue::Kind::kArray) return fields.wrong_type(key, "a string or an array of strings", *stop);
  for (size_t i = 0; i < stop->items.size(); ++i) {
    const JsonValue& item = stop->items[i];
    if (item.kind != JsonValue::Kind::kString) {
      fields.wrong_type(fmt::format("{}[{}]", key, i), "a string", item);
    } else if (!item.text.empty()) {
      stop_strings.push_back(item.text);
    }
  }
  if (stop_strings.size() > kMaxStopStrings) {
    fields.problem(key, fmt::format("at most {} strings are supported", kMaxStopStrings));
  }
}

std::optional<int32_t> read_max_tokens(JsonFields& fields, std::string_view key) {
  const std::optional<int64_t> tokens = fields.integer(key, 0, std::numeric_limits<int64_t>::max());
  if (!tokens) return std::nullopt;
  return static_cast<int32_t>(std::min<int64_t>(*tokens, kUnlimitedTokens));
}

bool read_token_ids(const JsonValue& array, const std::string& path, FieldProblems& problems,
                    std::vector<int32_t>& tokens) {
  tokens.reserve(array.items.size());
  for (size_t i = 0; i < array.items.size(); ++i) {
    const JsonValue& item = array.items[i];
    int32_t token = -1;
    const char* end = item.text.data() + item.text.size();
    const auto parsed = std::from_chars(item.text.data(), end, token);
    const bool is_id = item.kind == JsonValue::Kind::kScalar && parsed.ec == std::errc() && parsed.ptr == end;
    if (!is_id || token < 0) {
      const std::string_view found = item.kind == JsonValue::Kind::kScalar ? item.text : json_kind_name(item);
      problems.push_back({fmt::format("{}[{}]", path, i), fmt::format("expected a token id, found {}", found)});
      return false;
    }
    tokens.push_back(token);
  }
  return true;
}

std::string effort_problem(std::string_view effort) {
  if (find_effort(effort) != nullptr) return {};
  return fmt::format("expected none, minimal, low, medium, high, xhigh or max, found '{}'", effort);
}

void choose_thinking(const ThinkingWish& wish, const ServedModel& served, ApiRequest& request) {
  bool thinks = served.thinks_by_default;
  request.render.effort = served.default_effort;
  if (const Effort* effort = wish.effort ? find_effort(*wish.effort) : nullptr; effort != nullptr) {
    request.render.effort = effort->effort;
    thinks = true;
  }
  if (request.model == kChatAlias) thinks = false;
  if (request.model == kReasonerAlias) thinks = true;
  thinks = wish.effort != kNoEffort && wish.explicit_switch.value_or(thinks);
  request.render.thinking_mode = thinks ? ThinkingMode::kThinking : ThinkingMode::kChat;
}

std::optional<bool> read_thinking(JsonFields& fields) {
  const JsonValue* thinking = fields.find("thinking");
  if (thinking == nullptr) return std::nullopt;
  if (thinking->kind != JsonValue::Kind::kObject) return fields.boolean("thinking");
  JsonFields object = fields.child("thinking", *thinking);
  const std::string type = object.string("type").value_or("enabled");
  if (type == "disabled") return false;
  if (type != "enabled" && type != "adaptive" && type != "auto") {
    object.problem("type", fmt::format("expected 'enabled', 'disabled' or 'adaptive', found '{}'", type));
  }
  return true;
}

Message& system_message(std::vector<Message>& messages) {
  if (messages.empty() || messages.front().role != Role::kSystem) {
    messages.insert(messages.begin(), make_message(Role::kSystem));
  }
  return messages.front();
}

void define_tools(std::vector<std::string> tools, std::vector<Message>& messages) {
  if (!tools.empty()) system_message(messages).tools = std::move(tools);
}

std::string call_arguments(const JsonValue* arguments) {
  if (arguments == nullptr) return "{}";
  if (arguments->kind != JsonValue::Kind::kString) return dump_json(*arguments);
  if (arguments->text.empty()) return "{}";
  return parse_json(arguments->text).ok() ? arguments->text : json_string(arguments->text);
}

}  // namespace ds4
