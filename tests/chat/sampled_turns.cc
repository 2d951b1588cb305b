#include "chat/sampled_turns.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.h"
#include "chat/python_json.h"

namespace ds4::test {
namespace {

constexpr std::string_view kWords[] = {
    "the",  " file", "s",       "\n",   "  ",  "\t",       "42",   "ä", "\U0001F600",
    "日本", "\"",    "\\",      "<",    ">",   "</",       "&lt;", "{", "}",
    "a.cc", "=",     "<think>", "DSML", " ls", "｜DSML｜", "\r\n", "'", "</｜DSML｜parameter>"};
// White space between tags.
constexpr std::string_view kGaps[] = {"\n", "\n", "\n", "", " ", "\n\n", "\n\t ", " \r\n", "\n well: "};

class TurnSampler {
 public:
  explicit TurnSampler(Dice& dice) : dice_(dice) {}

  PromptSegments sample(bool thinks) && {
    const bool calls_tools = !dice_.one_in(5);
    const bool ends_reasoning = thinks && calls_tools && dice_.one_in(6);
    if (thinks) out_.add_text(dice_.text(20));
    if (thinks && !ends_reasoning) out_.add_control(ControlToken::kThinkEnd);
    if (!ends_reasoning && !dice_.one_in(3)) out_.add_text(dice_.text(12));
    if (calls_tools) {
      static constexpr std::string_view kSeparators[] = {"\n\n",       "\n\n",  "",        "\n",
                                                         "\n\n\n\n\n", " \n\n", "\n \n\n", "."};
      out_.add_text(dice_.pick(kSeparators));
      add_block();
    } else {
      out_.add_control(ControlToken::kEos);
    }
    return out_.take();
  }

 private:
  void tag(std::string_view opener, std::string_view rest) {
    out_.add_text(opener);
    out_.add_control(ControlToken::kDsml);
    out_.add_text(rest);
  }
  void gap() { out_.add_text(dice_.pick(kGaps)); }

  void add_block() {
    tag("<", "tool_calls>");
    const size_t n_calls = 1 + dice_.below(3);
    for (size_t i = 0; i < n_calls; ++i) {
      gap();
      add_call(i + 1 == n_calls);
    }
    gap();
    if (dice_.one_in(8)) {
      out_.add_control(ControlToken::kEos);  // forgotten closer
    } else {
      tag("</", dice_.one_in(3) ? "tool_calls>\n" : "tool_calls>");
    }
  }

  void add_call(bool is_last) {
    if (dice_.one_in(8)) tag("<", "note about=\"nothing\">");
    if (dice_.one_in(10)) tag("<", "invoke>");  // without a name it is no call
    static constexpr std::string_view kNames[] = {"bash", "read_file", "日本", "a b"};
    tag("<", fmt::format("invoke{}name=\"{}\"{}>", dice_.one_in(4) ? "  " : " ", dice_.pick(kNames),
                         dice_.one_in(4) ? " id=\"7\"" : ""));
    const size_t n_parameters = dice_.below(4);
    for (size_t i = 0; i < n_parameters; ++i) {
      gap();
      add_parameter(i);
    }
    gap();
    // The next invoke ends it, too; after the last one the end of the block would have to.
    if (is_last || !dice_.one_in(6)) tag("</", "invoke>");
  }

  void add_parameter(size_t i) {
    const std::string key = dice_.one_in(8) ? "again" : fmt::format("key{}", i);
    const bool is_string = dice_.one_in(2);
    std::string attributes = fmt::format(" name=\"{}\" string=\"{}\"", key, is_string);
    if (dice_.one_in(5)) attributes = fmt::format("  string = \"{}\" name=\"{}\" ", is_string, key);
    if (is_string && dice_.one_in(4)) attributes = fmt::format(" name=\"{}\"", key);
    tag("<", fmt::format("parameter{}>", attributes));
    static constexpr std::string_view kValues[] = {"1",
                                                   "1.0",
                                                   "-2.5e3",
                                                   "12345678901234567890123",
                                                   "true",
                                                   "null",
                                                   "[1,  2 , [ ] ]",
                                                   "{ \"b\" :1,\"a\":{ }}",
                                                   "[\"\\u00e4\"]",
                                                   "\"x\\ny\"",
                                                   "{}",
                                                   "not json",
                                                   "{'a': 1}",
                                                   ""};
    if (is_string) {
      out_.add_text(dice_.text(15));
    } else {
      out_.add_text(dice_.pick(kValues));
    }
    tag("</", "parameter>");
  }

  Dice& dice_;
  SegmentBuilder out_;
};

class Reformatter {
 public:
  explicit Reformatter(Dice& dice) : dice_(dice) {}

  std::string write(const JsonValue& value) {
    switch (value.kind) {
      case JsonValue::Kind::kScalar: return value.text == "1.0" ? "1" : value.text;
      case JsonValue::Kind::kString: return write_string(value.text);
      case JsonValue::Kind::kArray: break;
      case JsonValue::Kind::kObject: return write_object(value.members);
    }
    std::vector<std::string> items;
    for (const JsonValue& item : value.items) items.push_back(write(item));
    return list('[', items, ']');
  }

 private:
  std::string write_object(std::vector<JsonMember> members) {
    for (size_t i = members.size(); i > 1; --i) std::swap(members[i - 1], members[dice_.below(i)]);
    std::vector<std::string> items;
    for (const JsonMember& member : members) {
      items.push_back(write_string(member.key) + space() + ":" + space() + write(member.value));
    }
    return list('{', items, '}');
  }

  std::string list(char open, const std::vector<std::string>& items, char close) {
    std::string text = open + space();
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) text += "," + space();
      text += items[i] + space();
    }
    return text + close;
  }

  // As an encoder that writes ASCII only.
  std::string write_string(std::string_view value) {
    if (dice_.one_in(2)) return json_string(value);
    std::string text = "\"";
    for (size_t offset = 0; offset < value.size();) {
      const Utf8Character character = decode_utf8(value, offset);
      offset += character.n_bytes;
      const auto code = static_cast<uint32_t>(character.code_point);
      if (code >= 0x10000) {
        text += fmt::format("\\u{:04x}\\u{:04X}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + (code & 0x3FF));
      } else {
        text += fmt::format("\\u{:04x}", code);
      }
    }
    return text + '"';
  }

  std::string space() {
    static constexpr std::string_view kSpaces[] = {"", "", " ", "\n  "};
    return std::string(dice_.pick(kSpaces));
  }

  Dice& dice_;
};

}  // namespace

std::string Dice::text(size_t max_words) {
  std::string text;
  for (size_t n = below(max_words + 1); n > 0; --n) text += pick(kWords);
  return text;
}

PromptSegments sample_turn(Dice& dice, bool thinks) { return TurnSampler(dice).sample(thinks); }

std::string reformat_json(std::string_view json, Dice& dice) {
  const Result<JsonValue> value = parse_json(json);
  return value.ok() ? Reformatter(dice).write(value.value()) : std::string(json);
}

}  // namespace ds4::test
