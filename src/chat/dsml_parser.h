#pragma once

// The one parser of the tool-call block: what follows its opener, in pieces of any size, to tool-call events. The
// final and the incremental result are the same because there is no other path. It forgives what models get wrong:
// - anything between tags and unknown tags are skipped; attributes are found by name, in any order;
// - a value ends at the first parameter closer, and nothing is unescaped;
// - string="false" text that is not JSON becomes a JSON string, a missing `string` means "true";
// - the next invoke, the block's closer or the end of the output ends an open invoke; one without a name is dropped;
// - an invoke without a named parameter says its arguments in other words: the text inside is taken for the JSON
// object,
//   or else for the one parameter kWholeArguments; only an empty invoke has no arguments;
// - of a repeated parameter the last value is in ToolCallEnd (the stream shows both, see events.h).
// String values stream as they come; other values wait for their closer, since only then are they known to be JSON.
// Invariant: the events do not depend on how the input was cut, once their deltas are joined. One per output.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/events.h"
#include "chat/markup.h"

namespace ds4 {

class DsmlParser {
 public:
  explicit DsmlParser(const Markup& markup) : markup_(markup) {}

  // Precondition: whole characters of well-formed UTF-8, with control tokens in the form of `markup`.
  void push(std::string_view text, OutputEvents& events);

  // The output ended by itself: an invoke that lacks nothing but closers ends too.
  void finish(OutputEvents& events);

  // The block's closer was seen; more input is ignored. A call open until then has ended.
  bool closed() const { return closed_; }
  // Nothing was begun that has not ended.
  bool at_rest() const { return closed_ || (!in_call_ && !in_value_ && buffer_.empty() && !is_patched_); }
  // Calls that got their ToolCallEnd.
  size_t n_calls() const { return n_calls_; }
  // Nothing but white space was seen so far, or a closer.
  bool is_blank() const { return is_blank_; }
  // The input up to here is done with; what follows belongs to something that has not ended.
  size_t n_settled_bytes() const { return n_settled_bytes_; }

 private:
  struct Member {
    std::string key;
    std::string json;
  };

  bool step(std::string_view& rest, OutputEvents& events);
  bool step_between_tags(std::string_view& rest, OutputEvents& events);
  void skip(std::string_view text);
  bool step_value(std::string_view& rest, OutputEvents& events);
  // False for one that means nothing here.
  bool handle_tag(bool is_closer, std::string_view head, OutputEvents& events);
  void begin_call(std::optional<std::string> name);
  void end_call(OutputEvents& events);
  std::string member_arguments() const;
  std::string skipped_arguments() const;
  void begin_value(std::string_view head, OutputEvents& events);
  void take_value(std::string_view text, OutputEvents& events);
  void end_value(OutputEvents& events);
  void open_member(OutputEvents& events);
  void announce_call(OutputEvents& events);
  void emit(std::string fragment, OutputEvents& events);

  Markup markup_;
  std::string buffer_;  // not yet decided
  bool closed_ = false;
  size_t n_calls_ = 0;
  bool is_blank_ = true;
  bool is_patched_ = false;  // finish() ended a call
  size_t n_bytes_ = 0;       // of the input, buffer_ included
  size_t n_settled_bytes_ = 0;

  bool in_call_ = false;
  bool is_announced_ = false;  // with ToolCallBegin, once its first parameter or its end shows that it is a call
  std::string name_;
  std::string skipped_;  // what stands in a call that is not announced yet
  bool has_streamed_member_ = false;
  std::vector<Member> members_;

  bool in_value_ = false;
  bool value_is_string_ = true;
  std::optional<std::string> key_;  // absent: the value belongs to nothing and is skipped
  std::string value_;               // the JSON text of a string so far, or the raw text of another value
};

}  // namespace ds4
