#pragma once

// Splits what the model writes into reasoning, content and tool calls, while it is being written. Bytes may be cut
// anywhere, inside characters and markers too; nothing is passed on that a later byte could turn into syntax, and
// ill-formed UTF-8 becomes U+FFFD. The policy is the tolerant one of the chat specification:
// - reasoning ends at </think>, or at a tool-call block (a switch); one <think> at its start is skipped;
// - a stray </think> in content is deleted; newlines directly before a block belong to the block;
// - the output is over at the block's closer, at a stop string in the content, or at a token that ends the turn;
// - a block that holds no call, but something, is text: nothing that the model wrote is lost.
// Invariant: joined deltas do not depend on the cuts. One per output; used on the engine's thread.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/control_tokens.h"
#include "chat/dsml_parser.h"
#include "chat/events.h"
#include "chat/markup.h"
#include "chat/sampled_calls.h"
#include "chat/stop_strings.h"

namespace ds4 {

struct OutputParserOptions {
  bool starts_in_thinking = false;  // RenderedPrompt::starts_in_thinking
  bool tools_enabled = false;       // false: a tool-call block is text
  bool dsml_ends_reasoning = true;  // false: a block inside reasoning is text and calls nothing
  // True: markers count only as push_control(); spelt with ordinary tokens they are quotations, i.e. text.
  bool require_control_tokens = false;
  std::vector<std::string> stop_strings{};  // well-formed UTF-8; searched in content only, never shown
};

class OutputParser {
 public:
  explicit OutputParser(OutputParserOptions options);

  // The bytes of ordinary tokens.
  OutputEvents push_text(std::string_view bytes);
  // A control token by its id. Those that end a turn end the output; those of tasks are dropped.
  OutputEvents push_control(ControlToken token);
  // No more tokens come. Releases what was held back. Where the output was cut off, an unfinished call or block opener
  // is dropped; where it ended by itself, calls that lack only their closers are whole, and the rest of a block is
  // text.
  OutputEvents finish(bool cut_off);

  // Generation should stop: more input is ignored.
  bool done() const { return done_; }
  bool in_reasoning() const { return state_ == State::kReasoningStart || state_ == State::kReasoning; }
  // Inside a tool-call block, or so many bytes into what may become its opener.
  bool in_block() const { return state_ == State::kTools; }
  size_t pending_block_bytes() const;
  // kStop, kLength or kToolCalls. Precondition: finish() was called.
  FinishReason finish_reason() const { return finish_reason_; }
  // The stop string that ended the output; empty when something else did.
  const std::string& matched_stop_string() const { return stop_strings_.matched(); }
  // The tool-call block as it came, when all of its calls were passed on. Nothing where the markers were not pushed as
  // control tokens. Precondition: finish() was called.
  std::optional<SampledCalls> take_sampled_calls();

 private:
  enum class State { kReasoningStart, kReasoning, kContent, kTools };

  void append(std::string_view bytes);
  void replace_tail();
  void run(OutputEvents& events);
  bool step(OutputEvents& events);
  bool step_text(OutputEvents& events);
  bool expects_block() const;
  size_t held_bytes() const;
  void emit(std::string_view text, OutputEvents& events);
  void emit_content(std::string_view text, OutputEvents& events);
  void flush_content(OutputEvents& events);
  void flush_text(bool cut_off, OutputEvents& events);
  void push_block(OutputEvents& events);
  void end_block(OutputEvents& events);
  void show_block(size_t from_byte, size_t n_bytes, OutputEvents& events);

  OutputParserOptions options_;
  Markup markup_;
  DsmlParser dsml_;
  State state_;
  bool done_ = false;
  FinishReason finish_reason_ = FinishReason::kStop;
  std::string buffer_;  // well-formed UTF-8 and markup bytes, then tail_bytes_ of an unfinished character
  size_t tail_bytes_ = 0;
  StopStrings stop_strings_;
  SampledCalls sampled_calls_;
  size_t block_head_bytes_ = 0;  // of sampled_calls_.text: all that dsml_ did not get
};

}  // namespace ds4
