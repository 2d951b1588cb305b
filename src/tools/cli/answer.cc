#include "tools/cli/answer.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "base/clock.h"
#include "engine/event_queue.h"
#include "tools/cli/interrupt.h"

namespace ds4 {
namespace {

constexpr const char* kDim = "\x1b[90m";
constexpr const char* kPlain = "\x1b[0m";
constexpr const char* kClearLine = "\r\x1b[K";

class AnswerPrinter {
 public:
  void operator()(const PrefillProgress& progress) {
    prefill_us_ = clock_.elapsed_us(start_us_);
    // A prompt of one step needs no progress line.
    const bool is_complete = progress.done_tokens == progress.total_tokens;
    if (!shows_progress_ || (is_complete && !has_progress_line_)) return;
    has_progress_line_ = !is_complete;
    fmt::print(stderr, "{}", kClearLine);
    if (is_complete) return;
    fmt::print(stderr, "processing {} input tokens: {} ({}%)", progress.total_tokens, progress.done_tokens,
               100 * progress.done_tokens / progress.total_tokens);
  }
  void operator()(const ReasoningDelta& delta) {
    answer_.reasoning += delta.text;
    if (!is_terminal_) return;
    if (!in_reasoning_) write(kDim);
    in_reasoning_ = true;
    write(delta.text);
  }
  void operator()(const TextDelta& delta) {
    end_reasoning();
    answer_.content += delta.text;
    write(delta.text);
  }
  void operator()(const Finished& finished) {
    answer_.reason = finished.reason;
    answer_.usage = finished.usage;
    end();
  }
  void operator()(const Failed& failed) {
    end();
    if (!error_) error_ = failed.error;
  }
  // Nothing in a request of this program asks for these.
  void operator()(const ToolCallBegin&) {}
  void operator()(const ToolCallArgumentsDelta&) {}
  void operator()(const ToolCallEnd&) {}
  void operator()(const TokenLogprobs&) {}

  bool has_ended() const { return has_ended_; }
  // Nobody reads the answer any more.
  bool has_failed() const { return error_.has_value(); }

  Result<Answer> take() {
    if (error_) return *std::move(error_);
    print_speed();
    return std::move(answer_);
  }

 private:
  void write(std::string_view text) {
    if (text.empty() || error_) return;
    ends_with_newline_ = text.back() == '\n';
    const bool is_written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
    if (!is_written) error_ = make_error(ErrorCode::kIo, "cannot write the answer: {}", std::strerror(errno));
  }

  void end_reasoning() {
    if (!in_reasoning_) return;
    in_reasoning_ = false;
    const bool needs_newline = !ends_with_newline_;
    write(kPlain);
    if (needs_newline) write("\n");
  }

  // On a terminal the answer ends with a newline; elsewhere its bytes stay as they are.
  void end() {
    if (has_progress_line_) fmt::print(stderr, "{}", kClearLine);
    end_reasoning();
    if (is_terminal_ && !ends_with_newline_) write("\n");
    end_us_ = clock_.elapsed_us(start_us_);
    has_ended_ = true;
  }

  void print_speed() const {
    const auto per_second = [](size_t n, int64_t us) {
      return us > 0 ? static_cast<double>(n) * 1e6 / static_cast<double>(us) : 0.0;
    };
    const size_t n_generated = answer_.usage.completion_tokens;
    // The first token comes with the last step of the prompt.
    const size_t n_timed = n_generated > 0 ? n_generated - 1 : 0;
    fmt::print(stderr, "ds4: prefill {} tokens, {:.1f} tokens/s; generation {} tokens, {:.1f} tokens/s\n",
               answer_.usage.prompt_tokens, per_second(answer_.usage.prompt_tokens, prefill_us_), n_generated,
               per_second(n_timed, end_us_ - prefill_us_));
  }

  MonotonicClock clock_;
  const int64_t start_us_ = clock_.now_us();
  const bool is_terminal_ = isatty(STDOUT_FILENO) != 0;
  const bool shows_progress_ = isatty(STDERR_FILENO) != 0;
  int64_t prefill_us_ = 0;
  int64_t end_us_ = 0;
  bool has_progress_line_ = false;
  bool in_reasoning_ = false;
  bool ends_with_newline_ = true;
  bool has_ended_ = false;
  Answer answer_;
  std::optional<Error> error_;
};

}  // namespace

Result<Answer> run_request(EngineThread& thread, GenerateRequest request) {
  const auto events = std::make_shared<EventQueue>();
  const auto cancel = std::make_shared<std::atomic<bool>>(false);
  request.sink = events;
  request.cancel = cancel;
  const InterruptGuard guard(*cancel);
  AnswerPrinter printer;
  TRY(thread.submit(std::move(request)));
  while (!printer.has_ended()) {
    for (const OutputEvent& event : events->pop()) std::visit(printer, event);
    if (printer.has_failed()) cancel->store(true);
  }
  return printer.take();
}

}  // namespace ds4
