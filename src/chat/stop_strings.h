#pragma once

// Finds the first of several stop strings in text that comes in pieces. What push() gives out is never taken back: text
// that may be the beginning of a stop string waits. The stop string that ends first wins, of two the longer, so the
// cuts of the input do not matter. One per output; used on the engine's thread.

#include <string>
#include <string_view>
#include <vector>

namespace ds4 {

class StopStrings {
 public:
  // Empty strings mean nothing.
  explicit StopStrings(std::vector<std::string> strings);

  // The text that is free of stop strings now. After found() there is no more.
  std::string push(std::string_view text);
  // No more text comes: what had to wait.
  std::string finish();

  bool found() const { return found_; }
  // The one that was found, or empty.
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> strings_;
  std::string waiting_;
  std::string matched_;
  bool found_ = false;
};

}  // namespace ds4
