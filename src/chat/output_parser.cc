#include "chat/output_parser.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"

namespace ds4 {
namespace {

size_t trailing_newlines(std::string_view text) { return text.size() - (text.find_last_not_of('\n') + 1); }

}  // namespace

OutputParser::OutputParser(OutputParserOptions options)
    : options_(std::move(options)),
      markup_(options_.require_control_tokens ? token_markup() : spelled_markup()),
      dsml_(markup_),
      state_(options_.starts_in_thinking ? State::kReasoningStart : State::kContent),
      stop_strings_(std::move(options_.stop_strings)) {}

OutputEvents OutputParser::push_text(std::string_view bytes) {
  OutputEvents events;
  if (done_) return events;
  append(bytes);
  run(events);
  return events;
}

OutputEvents OutputParser::push_control(ControlToken token) {
  OutputEvents events;
  if (done_) return events;
  replace_tail();
  switch (token) {
    case ControlToken::kThinkBegin: buffer_ += markup_.think_begin; break;
    case ControlToken::kThinkEnd: buffer_ += markup_.think_end; break;
    case ControlToken::kDsml: buffer_ += markup_.dsml; break;
    case ControlToken::kBos:
    case ControlToken::kEos:
    case ControlToken::kUser:
    case ControlToken::kAssistant:
    case ControlToken::kLatestReminder: done_ = true; return events;
    case ControlToken::kAction:
    case ControlToken::kQuery:
    case ControlToken::kAuthority:
    case ControlToken::kDomain:
    case ControlToken::kTitle:
    case ControlToken::kExtractedUrl:
    case ControlToken::kReadUrl: break;
  }
  run(events);
  return events;
}

OutputEvents OutputParser::finish(bool cut_off) {
  OutputEvents events;
  cut_off = cut_off && !done_;
  replace_tail();
  if (state_ != State::kTools) flush_text(cut_off, events);
  if (state_ == State::kTools && !cut_off) end_block(events);
  const FinishReason complete = dsml_.n_calls() > 0 ? FinishReason::kToolCalls : FinishReason::kStop;
  finish_reason_ = cut_off && !done_ ? FinishReason::kLength : complete;
  done_ = true;
  return events;
}

std::optional<SampledCalls> OutputParser::take_sampled_calls() {
  if (!options_.require_control_tokens || dsml_.n_calls() == 0 || !dsml_.at_rest()) return std::nullopt;
  return std::move(sampled_calls_);
}

// Keeps buffer_ well-formed but for an unfinished last character.
void OutputParser::append(std::string_view bytes) {
  std::string raw = buffer_.substr(buffer_.size() - tail_bytes_);
  raw.append(bytes);
  buffer_.resize(buffer_.size() - tail_bytes_);
  tail_bytes_ = 0;
  for (size_t offset = 0; offset < raw.size();) {
    const Utf8Character character = decode_utf8(raw, offset);
    if (character.status == Utf8Status::kTruncated) {
      tail_bytes_ = raw.size() - offset;
      buffer_.append(raw, offset);
      return;
    }
    append_utf8(buffer_, character.code_point);
    offset += character.n_bytes;
  }
}

// The unfinished character will not be finished.
void OutputParser::replace_tail() {
  if (tail_bytes_ == 0) return;
  buffer_.resize(buffer_.size() - tail_bytes_);
  append_utf8(buffer_, kReplacementCharacter);
  tail_bytes_ = 0;
}

void OutputParser::run(OutputEvents& events) {
  while (!done_ && step(events)) {
  }
  if (!done_) return;
  buffer_.clear();
  tail_bytes_ = 0;
}

// False when the buffer decides nothing more.
bool OutputParser::step(OutputEvents& events) {
  switch (state_) {
    case State::kReasoningStart:
      if (buffer_.starts_with(markup_.think_begin)) {
        buffer_.erase(0, markup_.think_begin.size());
      } else if (markup_.think_begin.starts_with(buffer_)) {
        return false;
      }
      state_ = State::kReasoning;
      return true;
    case State::kReasoning:
    case State::kContent: return step_text(events);
    case State::kTools: push_block(events); return false;
  }
  return false;
}

void OutputParser::push_block(OutputEvents& events) {
  const std::string_view whole = std::string_view(buffer_).substr(0, buffer_.size() - tail_bytes_);
  sampled_calls_.text += whole;
  dsml_.push(whole, events);
  buffer_.erase(0, whole.size());
  done_ = dsml_.closed();
  if (done_ && dsml_.n_calls() == 0) show_block(0, block_head_bytes_ + dsml_.n_settled_bytes(), events);
}

// The output ended by itself inside the block.
void OutputParser::end_block(OutputEvents& events) {
  if (dsml_.closed()) return;
  push_block(events);
  dsml_.finish(events);
  const size_t from_byte = dsml_.n_calls() > 0 ? block_head_bytes_ + dsml_.n_settled_bytes() : 0;
  show_block(from_byte, sampled_calls_.text.size() - from_byte, events);
}

void OutputParser::show_block(size_t from_byte, size_t n_bytes, OutputEvents& events) {
  if (dsml_.is_blank() || n_bytes == 0) return;
  emit_content(spell_controls(std::string_view(sampled_calls_.text).substr(from_byte, n_bytes)), events);
  flush_content(events);
  done_ = true;
}

bool OutputParser::step_text(OutputEvents& events) {
  const size_t think_end = buffer_.find(markup_.think_end);
  const size_t block = expects_block() ? buffer_.find(markup_.block_opener) : std::string::npos;
  if (block < think_end) {
    const std::string_view before = std::string_view(buffer_).substr(0, block);
    emit(before.substr(0, before.size() - trailing_newlines(before)), events);
    flush_content(events);
    if (done_) return false;
    sampled_calls_ = {.text = buffer_.substr(block - trailing_newlines(before), trailing_newlines(before)),
                      .ends_reasoning = in_reasoning()};
    sampled_calls_.text += markup_.block_opener;
    block_head_bytes_ = sampled_calls_.text.size();
    buffer_.erase(0, block + markup_.block_opener.size());
    state_ = State::kTools;
    return true;
  }
  const bool found = think_end != std::string::npos;
  const size_t n_safe = found ? think_end : buffer_.size() - held_bytes();
  emit(std::string_view(buffer_).substr(0, n_safe), events);
  buffer_.erase(0, n_safe + (found ? markup_.think_end.size() : 0));
  if (found) state_ = State::kContent;
  return found;
}

bool OutputParser::expects_block() const {
  return options_.tools_enabled && (!in_reasoning() || options_.dsml_ends_reasoning);
}

size_t OutputParser::pending_block_bytes() const {
  return expects_block() ? partial_marker_size(buffer_, markup_.block_opener) : 0;
}

// How much of the buffer's end may yet become a marker or a character.
size_t OutputParser::held_bytes() const {
  size_t held = std::max(tail_bytes_, partial_marker_size(buffer_, markup_.think_end));
  if (expects_block()) {
    const size_t n_opener = partial_marker_size(buffer_, markup_.block_opener);
    const std::string_view before = std::string_view(buffer_).substr(0, buffer_.size() - n_opener);
    held = std::max(held, n_opener + trailing_newlines(before));
  }
  return held;
}

void OutputParser::emit(std::string_view text, OutputEvents& events) {
  if (text.empty()) return;
  if (in_reasoning()) {
    append_event(events, ReasoningDelta{spell_controls(text)});
  } else {
    emit_content(spell_controls(text), events);
  }
}

void OutputParser::emit_content(std::string_view text, OutputEvents& events) {
  if (std::string safe = stop_strings_.push(text); !safe.empty()) append_event(events, TextDelta{std::move(safe)});
  done_ = stop_strings_.found();
}

void OutputParser::flush_content(OutputEvents& events) {
  if (std::string rest = stop_strings_.finish(); !rest.empty()) append_event(events, TextDelta{std::move(rest)});
}

void OutputParser::flush_text(bool cut_off, OutputEvents& events) {
  std::string_view rest = buffer_;
  if (expects_block() && cut_off) {
    const size_t n_opener = partial_marker_size(rest, markup_.block_opener);
    // A piece that already shows the marker is markup, a shorter one may be anything.
    if (n_opener >= markup_.tag_opener.size()) {
      rest.remove_suffix(n_opener);
      rest.remove_suffix(trailing_newlines(rest));
    }
  }
  emit(rest, events);
  flush_content(events);
  buffer_.clear();
}

}  // namespace ds4
