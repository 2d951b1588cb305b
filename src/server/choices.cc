#include "server/choices.h"

namespace ds4 {
namespace {

class ChoiceSink final : public EventSink {
 public:
  using Pass = void (AnswerGate::*)(size_t, OutputEvents);
  ChoiceSink(std::shared_ptr<AnswerGate> gate, Pass pass, size_t index)
      : gate_(std::move(gate)), pass_(pass), index_(index) {}
  void on_events(OutputEvents events) override { ((*gate_).*pass_)(index_, std::move(events)); }

 private:
  const std::shared_ptr<AnswerGate> gate_;
  const Pass pass_;
  const size_t index_;
};

}  // namespace

std::vector<GenerateRequest> choices_of(GenerateRequest request, int32_t n) {
  std::vector<GenerateRequest> choices(static_cast<size_t>(n - 1), request);
  choices.insert(choices.begin(), std::move(request));
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].sampling.seed) *choices[i].sampling.seed += i;
  }
  return choices;
}

void add_choice_usage(Usage& total, const Usage& usage, bool is_first_of_prompt) {
  if (is_first_of_prompt) {
    total.prompt_tokens += usage.prompt_tokens;
    total.cached_tokens += usage.cached_tokens;
  }
  total.completion_tokens += usage.completion_tokens;
  total.reasoning_tokens += usage.reasoning_tokens;
}

std::shared_ptr<EventSink> AnswerGate::choice(size_t index) {
  return std::make_shared<ChoiceSink>(shared_from_this(), &AnswerGate::on_events, index);
}

void AnswerGate::begin() {
  const std::lock_guard lock(mutex_);
  state_ = State::kOpen;
  answer_->begin();
  for (auto& [choice, events] : std::exchange(early_, {})) {
    if (state_ == State::kOpen) pass(choice, std::move(events));
  }
}

void AnswerGate::close() {
  const std::lock_guard lock(mutex_);
  state_ = State::kClosed;
  early_.clear();
  responder_->cancelled()->store(true);
}

void AnswerGate::on_events(size_t choice, OutputEvents events) {
  const std::lock_guard lock(mutex_);
  switch (state_) {
    case State::kWaiting: early_.emplace_back(choice, std::move(events)); break;
    case State::kOpen: pass(choice, std::move(events)); break;
    case State::kClosed: break;
  }
}

// The last event of a list is the only one that can be an end.
void AnswerGate::pass(size_t choice, OutputEvents events) {
  if (events.empty()) return;
  const auto* finished = std::get_if<Finished>(&events.back());
  if (finished != nullptr && finished->reason == FinishReason::kCancelled) {
    events.back() = Failed{cancelled_error(*responder_)};
  }
  if (std::holds_alternative<Failed>(events.back())) {
    state_ = State::kClosed;
    responder_->cancelled()->store(true);
  }
  answer_->on_events(choice, std::move(events));
}

}  // namespace ds4
