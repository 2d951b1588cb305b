#pragma once

// The raw text of a custom tool's call, taken out of the arguments that the model writes for its one parameter while
// they come: {"input": "..."}. Cuts may be anywhere. One per call.

#include <string>
#include <string_view>

namespace ds4 {

class CustomInput {
 public:
  // The text that these bytes of the arguments complete.
  std::string push(std::string_view fragment);
  // What is missing of the whole text. `arguments` is the complete object, or empty for a call that was cut off; where
  // it has no string "input" in front, its only value or the object itself is the text.
  std::string finish(std::string_view arguments);
  const std::string& text() const { return text_; }

 private:
  enum class State { kHead, kText, kDone, kOther };

  std::string decode_safe_part();

  State state_ = State::kHead;
  std::string pending_;
  std::string text_;
};

}  // namespace ds4
