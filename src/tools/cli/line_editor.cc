#include "tools/cli/line_editor.h"

#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace ds4 {
namespace {

constexpr int kHistoryLines = 512;

// libedit reads characters, not bytes: without a UTF-8 locale it would cut them.
void use_utf8_locale() {
  std::setlocale(LC_CTYPE, "");
  if (std::string_view(nl_langinfo(CODESET)) != "UTF-8") std::setlocale(LC_CTYPE, "C.UTF-8");
}

std::string history_path() {
  const char* home = std::getenv("HOME");
  return home != nullptr ? std::string(home) + "/.ds4_history" : std::string();
}

const char* prompt_of(EditLine* editor) {
  void* prompt = nullptr;
  el_get(editor, EL_CLIENTDATA, &prompt);
  return static_cast<const std::string*>(prompt)->c_str();
}

}  // namespace

struct LineEditor::Terminal {
  EditLine* editor;
  History* lines;
  std::string path;
  HistEvent event{};
};

LineEditor::LineEditor(std::string prompt) : prompt_(std::move(prompt)) {
  if (isatty(STDIN_FILENO) == 0 || isatty(STDOUT_FILENO) == 0) return;
  use_utf8_locale();
  EditLine* editor = el_init("ds4", stdin, stdout, stderr);
  if (editor == nullptr) return;
  terminal_ = std::make_unique<Terminal>(Terminal{editor, history_init(), history_path()});
  history(terminal_->lines, &terminal_->event, H_SETSIZE, kHistoryLines);
  history(terminal_->lines, &terminal_->event, H_SETUNIQUE, 1);
  if (!terminal_->path.empty()) history(terminal_->lines, &terminal_->event, H_LOAD, terminal_->path.c_str());
  el_set(editor, EL_CLIENTDATA, &prompt_);
  el_set(editor, EL_PROMPT, prompt_of);
  el_set(editor, EL_EDITOR, "emacs");
  el_set(editor, EL_HIST, history, terminal_->lines);
  el_set(editor, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  // While a line is edited, Ctrl-C is a key like any other.
  el_set(editor, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor, EL_BIND, "^C", "em-kill-line", nullptr);
}

LineEditor::~LineEditor() {
  if (terminal_ == nullptr) return;
  history_end(terminal_->lines);
  el_end(terminal_->editor);
}

std::optional<std::string> LineEditor::read_line() {
  if (terminal_ != nullptr) return read_terminal_line();
  char* buffer = nullptr;
  size_t capacity = 0;
  const ssize_t n_bytes = getline(&buffer, &capacity, stdin);
  std::optional<std::string> line;
  if (n_bytes >= 0) line.emplace(buffer, static_cast<size_t>(n_bytes));
  std::free(buffer);
  if (line && line->ends_with('\n')) line->pop_back();
  return line;
}

std::optional<std::string> LineEditor::read_terminal_line() {
  int n_bytes = 0;
  const char* text = el_gets(terminal_->editor, &n_bytes);
  if (text == nullptr || n_bytes <= 0) return std::nullopt;
  std::string line(text, static_cast<size_t>(n_bytes));
  if (line.ends_with('\n')) line.pop_back();
  if (line.empty()) return line;
  history(terminal_->lines, &terminal_->event, H_ENTER, text);
  if (!terminal_->path.empty()) history(terminal_->lines, &terminal_->event, H_SAVE, terminal_->path.c_str());
  return line;
}

}  // namespace ds4
