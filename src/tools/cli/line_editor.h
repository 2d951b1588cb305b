#pragma once

// Lines from a person or a pipe. On a terminal libedit edits them, with a history kept in ~/.ds4_history; Ctrl-C clears
// the line, Ctrl-D on an empty one ends the input. Otherwise plain lines, without prompt or history. Main thread.

#include <memory>
#include <optional>
#include <string>

namespace ds4 {

class LineEditor {
 public:
  // The prompt shown on a terminal.
  explicit LineEditor(std::string prompt);
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  // Without its newline; nothing at the end of the input.
  std::optional<std::string> read_line();

 private:
  struct Terminal;
  std::optional<std::string> read_terminal_line();

  std::string prompt_;
  std::unique_ptr<Terminal> terminal_;  // null: plain lines
};

}  // namespace ds4
