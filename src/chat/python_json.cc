#include "chat/python_json.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/utf8.h"

namespace ds4 {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Python's repr() of a double.
std::string double_text(double value) {
  if (value > std::numeric_limits<double>::max()) return "Infinity";
  if (value < std::numeric_limits<double>::lowest()) return "-Infinity";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view shortest(buffer, static_cast<size_t>(end - buffer));  // [-]d[.ddd]e+xx
  std::string text;
  if (shortest.front() == '-') {
    text = "-";
    shortest.remove_prefix(1);
  }
  const size_t e = shortest.find('e');
  int exponent = 0;
  const size_t exponent_start = e + (shortest[e + 1] == '+' ? 2 : 1);
  std::from_chars(shortest.data() + exponent_start, shortest.data() + shortest.size(), exponent);
  if (exponent < -4 || exponent >= 16) return text.append(shortest);
  std::string digits(1, shortest[0]);
  if (e > 2) digits.append(shortest.substr(2, e - 2));
  if (exponent < 0) return text + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
  const size_t n_whole = static_cast<size_t>(exponent) + 1;
  if (digits.size() < n_whole + 1) digits.resize(n_whole + 1, '0');
  return text + digits.insert(n_whole, ".");
}

// Decimal exponent of the first digit that counts, saturating; tells overflow from underflow.
int64_t decimal_magnitude(std::string_view number) {
  constexpr int64_t kHuge = int64_t{1} << 60;
  const size_t e = std::min(number.find_first_of("eE"), number.size());
  int64_t exponent = 0;
  if (e < number.size()) {
    const size_t start = e + (number[e + 1] == '+' ? 2 : 1);
    if (std::from_chars(number.data() + start, number.data() + number.size(), exponent).ec != std::errc()) {
      exponent = number[e + 1] == '-' ? -kHuge : kHuge;
    }
    exponent = std::clamp(exponent, -kHuge, kHuge);
  }
  const auto point = static_cast<int64_t>(std::min(number.find('.'), e));
  const auto first = static_cast<int64_t>(number.find_first_of("123456789"));
  return exponent + point - first;
}

std::string number_text(std::string_view number) {
  if (number.find_first_of(".eE") == std::string_view::npos) return number == "-0" ? "0" : std::string(number);
  double value = 0;
  if (std::from_chars(number.data(), number.data() + number.size(), value).ec == std::errc::result_out_of_range) {
    const bool negative = number.front() == '-';
    value = decimal_magnitude(number) > 0 ? std::numeric_limits<double>::infinity() : 0.0;
    if (negative) value = -value;
  }
  return double_text(value);
}

JsonValue make_value(JsonValue::Kind kind, std::string text) {
  JsonValue value;
  value.kind = kind;
  value.text = std::move(text);
  return value;
}

class Parser {
 public:
  Parser(std::string_view text, JsonDialect dialect) : text_(text), dialect_(dialect) {}

  Result<JsonValue> parse_document() {
    JsonValue value = TRY(parse_value(0));
    skip_space();
    if (!at_end()) return unexpected("the end of the text");
    return value;
  }

 private:
  bool at_end() const { return offset_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[offset_]; }

  bool accept(std::string_view expected) {
    if (text_.substr(offset_, expected.size()) != expected) return false;
    offset_ += expected.size();
    return true;
  }

  void skip_space() { offset_ = std::min(text_.find_first_not_of(" \t\n\r", offset_), text_.size()); }

  Error unexpected(std::string_view expected) const {
    std::string found = "the end";
    if (!at_end()) {
      const std::string_view character = text_.substr(offset_, decode_utf8(text_, offset_).n_bytes);
      found = json_string(replace_ill_formed_utf8(character));
    }
    return make_error(ErrorCode::kInvalidArgument, "invalid JSON at byte {}: expected {}, found {}", offset_, expected,
                      found);
  }

  Result<JsonValue> parse_value(size_t depth) {
    skip_space();
    switch (peek()) {
      case '{': return parse_object(depth + 1);
      case '[': return parse_array(depth + 1);
      case '"': return make_value(JsonValue::Kind::kString, TRY(parse_string()));
      default: return parse_scalar();
    }
  }

  Result<JsonValue> parse_scalar() {
    for (const std::string_view word : {"null", "true", "false"}) {
      if (accept(word)) return make_value(JsonValue::Kind::kScalar, std::string(word));
    }
    if (dialect_ == JsonDialect::kPython) {
      for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (accept(word)) return make_value(JsonValue::Kind::kScalar, std::string(word));
      }
    }
    const size_t start = offset_;
    accept("-");
    if (!is_digit(peek())) return unexpected("a value");
    if (!accept("0")) TRY(skip_digits());
    if (accept(".")) TRY(skip_digits());
    if (accept("e") || accept("E")) {
      if (!accept("+")) accept("-");
      TRY(skip_digits());
    }
    return make_value(JsonValue::Kind::kScalar, number_text(text_.substr(start, offset_ - start)));
  }

  Result<void> skip_digits() {
    if (!is_digit(peek())) return unexpected("a digit");
    while (is_digit(peek())) ++offset_;
    return {};
  }

  Result<JsonValue> parse_array(size_t depth) {
    TRY(check_depth(depth));
    JsonValue array = make_value(JsonValue::Kind::kArray, {});
    ++offset_;
    skip_space();
    if (accept("]")) return array;
    while (true) {
      array.items.push_back(TRY(parse_value(depth)));
      skip_space();
      if (accept("]")) return array;
      if (!accept(",")) return unexpected("',' or ']'");
    }
  }

  Result<JsonValue> parse_object(size_t depth) {
    TRY(check_depth(depth));
    JsonValue object = make_value(JsonValue::Kind::kObject, {});
    std::unordered_map<std::string, size_t> positions;
    ++offset_;
    skip_space();
    if (accept("}")) return object;
    while (true) {
      skip_space();
      if (peek() != '"') return unexpected("a key");
      std::string key = TRY(parse_string());
      skip_space();
      if (!accept(":")) return unexpected("':'");
      JsonValue value = TRY(parse_value(depth));
      const auto [known, is_new] = positions.try_emplace(key, object.members.size());
      if (is_new) {
        object.members.push_back({std::move(key), std::move(value)});
      } else {
        object.members[known->second].value = std::move(value);
      }
      skip_space();
      if (accept("}")) return object;
      if (!accept(",")) return unexpected("',' or '}'");
    }
  }

  Result<void> check_depth(size_t depth) const {
    if (depth <= kMaxJsonDepth) return {};
    return make_error(ErrorCode::kInvalidArgument, "JSON at byte {} is nested more than {} deep", offset_,
                      kMaxJsonDepth);
  }

  Result<std::string> parse_string() {
    std::string value;
    ++offset_;
    while (true) {
      const size_t start = offset_;
      while (!at_end() && text_[offset_] != '"' && text_[offset_] != '\\' &&
             static_cast<uint8_t>(text_[offset_]) >= 0x20) {
        ++offset_;
      }
      value.append(text_.substr(start, offset_ - start));
      if (accept("\"")) return value;
      if (!accept("\\")) return unexpected("'\"' or an escaped character");
      TRY(parse_escape(value));
    }
  }

  Result<void> parse_escape(std::string& value) {
    constexpr std::string_view kEscapes = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (accept("u")) {
      append_utf8(value, TRY(parse_code_point()));
      return {};
    }
    const size_t escape = at_end() ? std::string_view::npos : kEscapes.find(peek());
    if (escape == std::string_view::npos) return unexpected("one of \"\\/bfnrtu");
    value.push_back(kMeanings[escape]);
    ++offset_;
    return {};
  }

  // After "\u". A high surrogate takes the low one that follows.
  Result<char32_t> parse_code_point() {
    const char32_t unit = TRY(parse_hex4());
    if (unit < 0xD800 || unit > 0xDFFF) return unit;
    const size_t after = offset_;
    if (unit < 0xDC00 && accept("\\u")) {
      const char32_t low = TRY(parse_hex4());
      if (low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
      offset_ = after;
    }
    return kReplacementCharacter;
  }

  Result<char32_t> parse_hex4() {
    uint32_t unit = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = peek();
      const bool is_hex = is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      if (!is_hex) return unexpected("four hexadecimal digits");
      unit = unit * 16 + static_cast<uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
      ++offset_;
    }
    return static_cast<char32_t>(unit);
  }

  std::string_view text_;
  JsonDialect dialect_;
  size_t offset_ = 0;
};

void append_json(const JsonValue& value, std::string& out) {
  switch (value.kind) {
    case JsonValue::Kind::kScalar: out += value.text; return;
    case JsonValue::Kind::kString: out += json_string(value.text); return;
    case JsonValue::Kind::kArray: {
      std::string_view separator = "[";
      for (const JsonValue& item : value.items) {
        out += std::exchange(separator, ", ");
        append_json(item, out);
      }
      out += value.items.empty() ? "[]" : "]";
      return;
    }
    case JsonValue::Kind::kObject: {
      std::string_view separator = "{";
      for (const JsonMember& member : value.members) {
        out += std::exchange(separator, ", ");
        out += json_string(member.key);
        out += ": ";
        append_json(member.value, out);
      }
      out += value.members.empty() ? "{}" : "}";
      return;
    }
  }
}

}  // namespace

Result<JsonValue> parse_json(std::string_view text, JsonDialect dialect) {
  return Parser(text, dialect).parse_document();
}

std::string dump_json(const JsonValue& value) {
  std::string text;
  append_json(value, text);
  return text;
}

void append_json_escaped(std::string_view text, std::string& out) {
  for (const char c : text) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<uint8_t>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<uint8_t>(c));
        } else {
          out.push_back(c);
        }
    }
  }
}

std::string json_string(std::string_view text) {
  std::string quoted = "\"";
  append_json_escaped(text, quoted);
  quoted.push_back('"');
  return quoted;
}

}  // namespace ds4
