#include "server/custom_input.h"

#include <utility>

#include "chat/python_json.h"
#include "server/openai_responses_tools.h"

namespace ds4 {
namespace {

constexpr size_t kUnicodeEscapeBytes = 6;

std::string head() { return "{" + json_string(kCustomInput) + ": \""; }

size_t escape_size(std::string_view rest) { return rest.size() > 1 && rest[1] == 'u' ? kUnicodeEscapeBytes : 2; }

bool is_high_surrogate(std::string_view escape) {
  return escape.size() == kUnicodeEscapeBytes && (escape[2] | 0x20) == 'd' &&
         std::string_view("89abAB").find(escape[3]) != std::string_view::npos;
}

std::string text_of(const JsonValue& value) {
  return value.kind == JsonValue::Kind::kString ? value.text : dump_json(value);
}

std::string text_of_arguments(std::string_view arguments) {
  const Result<JsonValue> parsed = parse_json(arguments);
  if (!parsed.ok()) return std::string(arguments);
  const JsonValue& object = parsed.value();
  for (const JsonMember& member : object.members) {
    if (member.key == kCustomInput) return text_of(member.value);
  }
  return object.members.size() == 1 ? text_of(object.members.front().value) : dump_json(object);
}

}  // namespace

std::string CustomInput::push(std::string_view fragment) {
  if (state_ == State::kDone || state_ == State::kOther) return {};
  pending_ += fragment;
  if (state_ == State::kHead) {
    const std::string expected = head();
    if (pending_.size() < expected.size() && expected.starts_with(pending_)) return {};
    state_ = pending_.starts_with(expected) ? State::kText : State::kOther;
    if (state_ == State::kOther) return {};
    pending_.erase(0, expected.size());
  }
  std::string text = decode_safe_part();
  text_ += text;
  return text;
}

// Up to the closing quote or the first escape that is not whole; of a pair of surrogates, both or none.
std::string CustomInput::decode_safe_part() {
  size_t n_safe = 0;
  size_t pair_begin = std::string::npos;
  for (size_t i = 0; i < pending_.size();) {
    if (pending_[i] == '"') {
      state_ = State::kDone;
      n_safe = i;
      break;
    }
    const bool escapes = pending_[i] == '\\';
    const std::string_view rest = std::string_view(pending_).substr(i);
    if (escapes && rest.size() < (rest.size() > 1 ? escape_size(rest) : 2)) break;
    const size_t n = escapes ? escape_size(rest) : 1;
    const bool opens_pair = is_high_surrogate(escapes ? rest.substr(0, n) : rest.substr(0, 0));
    i += n;
    if (opens_pair && pair_begin == std::string::npos) {
      pair_begin = i - n;
    } else {
      pair_begin = std::string::npos;
    }
    n_safe = pair_begin == std::string::npos ? i : pair_begin;
  }
  const Result<JsonValue> decoded = parse_json('"' + pending_.substr(0, n_safe) + '"');
  pending_.erase(0, n_safe);
  return decoded.ok() ? decoded.value().text : std::string();
}

std::string CustomInput::finish(std::string_view arguments) {
  if (state_ == State::kDone || state_ == State::kText || arguments.empty()) return {};
  state_ = State::kDone;
  text_ = text_of_arguments(arguments);
  return text_;
}

}  // namespace ds4
