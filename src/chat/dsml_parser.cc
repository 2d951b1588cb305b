#include "chat/dsml_parser.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "chat/dsml.h"
#include "chat/python_json.h"

namespace ds4 {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// A longer tag is broken: what it holds is skipped instead of being collected for ever.
constexpr size_t kMaxTagBytes = 4096;

struct TagEnd {
  size_t head_bytes;
  size_t tag_bytes;
};

// Where the tag ends that `text` is inside of; nothing when more text is needed. A line break inside a quoted
// attribute breaks the tag off.
std::optional<TagEnd> find_tag_end(std::string_view text) {
  bool quoted = false;
  for (size_t i = 0; i < std::min(text.size(), kMaxTagBytes); ++i) {
    if (text[i] == '"') quoted = !quoted;
    if (text[i] == '>' && !quoted) return TagEnd{i, i + 1};
    if (text[i] == '\n' && quoted) return TagEnd{i, i};
  }
  if (text.size() >= kMaxTagBytes) return TagEnd{kMaxTagBytes, kMaxTagBytes};
  return std::nullopt;
}

std::string_view trim_end(std::string_view text) { return text.substr(0, text.find_last_not_of(kSpace) + 1); }

// The value of KEY="VALUE" in a tag's head.
std::optional<std::string> find_attribute(std::string_view head, std::string_view wanted) {
  while (true) {
    const size_t open = head.find('"');
    if (open == std::string_view::npos) return std::nullopt;
    const size_t close = head.find('"', open + 1);
    if (close == std::string_view::npos) return std::nullopt;
    std::string_view key = trim_end(head.substr(0, open));
    if (key.ends_with('=')) {
      key = trim_end(key.substr(0, key.size() - 1));
      key = key.substr(key.find_last_of(kSpace) + 1);
      if (key == wanted) return spell_controls(head.substr(open + 1, close - open - 1));
    }
    head.remove_prefix(close + 1);
  }
}

}  // namespace

void DsmlParser::push(std::string_view text, OutputEvents& events) {
  if (closed_) return;
  buffer_.append(text);
  n_bytes_ += text.size();
  std::string_view rest = buffer_;
  while (!closed_ && step(rest, events)) {
  }
  buffer_.erase(0, closed_ ? buffer_.size() : buffer_.size() - rest.size());
}

void DsmlParser::finish(OutputEvents& events) {
  const bool only_closers_are_missing =
      !in_value_ && (markup_.tag_closer.starts_with(buffer_) || buffer_.starts_with(markup_.tag_closer));
  if (closed_) return;
  if (!only_closers_are_missing) {
    is_blank_ = false;
    return;
  }
  is_patched_ = in_call_;
  end_call(events);
  n_settled_bytes_ = n_bytes_;
}

// One tag or one piece of a value; false when `rest` decides nothing more.
bool DsmlParser::step(std::string_view& rest, OutputEvents& events) {
  return in_value_ ? step_value(rest, events) : step_between_tags(rest, events);
}

bool DsmlParser::step_between_tags(std::string_view& rest, OutputEvents& events) {
  const size_t n_skipped = std::min(rest.find('<'), rest.size());
  skip(rest.substr(0, n_skipped));
  rest.remove_prefix(n_skipped);
  if (markup_.tag_opener.starts_with(rest) || markup_.tag_closer.starts_with(rest)) {
    if (rest != markup_.tag_opener && rest != markup_.tag_closer) return false;
  }
  const bool is_closer = rest.starts_with(markup_.tag_closer);
  if (!is_closer && !rest.starts_with(markup_.tag_opener)) {
    skip(rest.substr(0, 1));
    rest.remove_prefix(1);
    return true;
  }
  const std::string_view inside = rest.substr(is_closer ? markup_.tag_closer.size() : markup_.tag_opener.size());
  const std::optional<TagEnd> end = find_tag_end(inside);
  if (!end) return false;
  const std::string_view tag = rest.substr(0, rest.size() - inside.size() + end->tag_bytes);
  const size_t n_before = n_bytes_ - rest.size();
  const size_t n_ended = n_calls_;
  const bool was_in_call = in_call_;
  rest = inside.substr(end->tag_bytes);
  if (!handle_tag(is_closer, inside.substr(0, end->head_bytes), events)) skip(tag);
  const bool begins_call = in_call_ && (!was_in_call || n_calls_ > n_ended);
  if (begins_call) n_settled_bytes_ = n_before;
  if (!in_call_ && !in_value_) n_settled_bytes_ = n_bytes_ - rest.size();
  return true;
}

void DsmlParser::skip(std::string_view text) {
  if (text.find_first_not_of(kSpace) != std::string_view::npos) is_blank_ = false;
  if (in_call_ && !is_announced_) skipped_ += text;
}

bool DsmlParser::handle_tag(bool is_closer, std::string_view head, OutputEvents& events) {
  const std::string_view tag = head.substr(0, head.find_first_of(kSpace));
  if (is_closer) {
    if (tag != kDsmlInvoke && tag != kDsmlBlock) return false;
    end_call(events);
    closed_ = tag == kDsmlBlock;
    return true;
  }
  if (tag != kDsmlInvoke && tag != kDsmlParameter) return false;
  is_blank_ = false;
  if (tag == kDsmlInvoke) {
    end_call(events);
    begin_call(find_attribute(head, kDsmlName));
  } else {
    begin_value(head, events);
  }
  return true;
}

void DsmlParser::begin_call(std::optional<std::string> name) {
  if (!name || name->empty()) return;
  in_call_ = true;
  is_announced_ = false;
  name_ = std::move(*name);
  skipped_.clear();
  has_streamed_member_ = false;
  members_.clear();
}

void DsmlParser::announce_call(OutputEvents& events) {
  if (std::exchange(is_announced_, true)) return;
  events.push_back(ToolCallBegin{n_calls_, std::move(name_)});
}

void DsmlParser::end_call(OutputEvents& events) {
  if (!in_call_) return;
  in_call_ = false;
  const bool has_members = is_announced_;
  std::string arguments = has_members ? member_arguments() : skipped_arguments();
  announce_call(events);
  emit(has_members ? "}" : arguments, events);
  events.push_back(ToolCallEnd{n_calls_, std::move(arguments)});
  ++n_calls_;
}

std::string DsmlParser::member_arguments() const {
  std::string arguments;
  std::string_view separator = "{";
  for (const Member& member : members_) {
    arguments.append(separator).append(member.key).append(": ").append(member.json);
    separator = ", ";
  }
  return arguments.append("}");
}

// Of a call without a named parameter.
std::string DsmlParser::skipped_arguments() const {
  std::string text = spell_controls(trim_end(skipped_));
  text.erase(0, text.find_first_not_of(kSpace));
  if (text.empty()) return "{}";
  const Result<JsonValue> json = parse_json(text, JsonDialect::kStandard);
  if (json.ok() && json.value().kind == JsonValue::Kind::kObject) return text;
  return fmt::format("{{{}: {}}}", json_string(kWholeArguments), json_string(text));
}

void DsmlParser::begin_value(std::string_view head, OutputEvents& events) {
  in_value_ = true;
  key_.reset();
  value_.clear();
  if (!in_call_) return;
  if (const auto name = find_attribute(head, kDsmlName)) key_ = json_string(*name);
  if (!key_) return;
  announce_call(events);
  value_is_string_ = find_attribute(head, kDsmlString) != "false";
  if (!value_is_string_) return;
  value_ += '"';
  open_member(events);
  emit(value_, events);
}

bool DsmlParser::step_value(std::string_view& rest, OutputEvents& events) {
  const size_t end = rest.find(markup_.parameter_closer);
  if (end != std::string_view::npos) {
    take_value(rest.substr(0, end), events);
    end_value(events);
    rest.remove_prefix(end + markup_.parameter_closer.size());
    return true;
  }
  const size_t n_safe = rest.size() - partial_marker_size(rest, markup_.parameter_closer);
  take_value(rest.substr(0, n_safe), events);
  rest.remove_prefix(n_safe);
  return false;
}

void DsmlParser::take_value(std::string_view text, OutputEvents& events) {
  if (text.empty()) return;
  if (!key_) return skip(text);
  if (!value_is_string_) {
    value_ += spell_controls(text);
    return;
  }
  std::string fragment;
  append_json_escaped(spell_controls(text), fragment);
  value_ += fragment;
  emit(std::move(fragment), events);
}

void DsmlParser::end_value(OutputEvents& events) {
  in_value_ = false;
  if (!key_) return;
  if (value_is_string_) {
    value_ += '"';
    emit("\"", events);
  } else {
    if (!parse_json(value_, JsonDialect::kStandard).ok()) value_ = json_string(value_);
    open_member(events);
    emit(value_, events);
  }
  const auto known =
      std::find_if(members_.begin(), members_.end(), [this](const Member& member) { return member.key == *key_; });
  if (known != members_.end()) {
    known->json = std::move(value_);
  } else {
    members_.push_back({std::move(*key_), std::move(value_)});
  }
}

void DsmlParser::open_member(OutputEvents& events) {
  emit((has_streamed_member_ ? ", " : "{") + *key_ + ": ", events);
  has_streamed_member_ = true;
}

void DsmlParser::emit(std::string fragment, OutputEvents& events) {
  append_event(events, ToolCallArgumentsDelta{n_calls_, std::move(fragment)});
}

}  // namespace ds4
