#include "server/measured_sink.h"

#include <algorithm>
#include <utility>

namespace ds4 {
namespace {

bool is_output(const OutputEvent& event) {
  return std::holds_alternative<TextDelta>(event) || std::holds_alternative<ReasoningDelta>(event) ||
         std::holds_alternative<ToolCallBegin>(event) || std::holds_alternative<ToolCallArgumentsDelta>(event);
}

std::string_view finish_label(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "stop";
}

}  // namespace

MeasuredSink::MeasuredSink(std::shared_ptr<EventSink> inner, std::shared_ptr<std::atomic<bool>> cancel,
                           std::shared_ptr<Metrics> metrics, const Clock& clock)
    : inner_(std::move(inner)),
      cancel_(std::move(cancel)),
      metrics_(std::move(metrics)),
      clock_(clock),
      start_us_(clock.now_us()) {}

void MeasuredSink::expire() {
  expired_ = true;
  cancel_->store(true);
}

void MeasuredSink::on_events(OutputEvents events) {
  if (expired_) events = without_cancel(std::move(events));
  measure(events);
  inner_->on_events(std::move(events));
}

OutputEvents MeasuredSink::without_cancel(OutputEvents events) const {
  for (OutputEvent& event : events) {
    auto* finished = std::get_if<Finished>(&event);
    if (finished == nullptr || finished->reason != FinishReason::kCancelled) continue;
    if (last_output_us_ >= 0) {
      finished->reason = FinishReason::kLength;
    } else {
      event = Failed{make_error(ErrorCode::kCancelled, "the request took longer than --request-timeout allows")};
    }
  }
  return events;
}

void MeasuredSink::measure(const OutputEvents& events) {
  const int64_t now_us = clock_.now_us();
  const bool has_output = std::ranges::any_of(events, is_output);
  if (has_output && metrics_ != nullptr) {
    if (last_output_us_ < 0) {
      metrics_->time_to_first_token.observe_us(now_us - start_us_);
    } else {
      metrics_->time_between_outputs.observe_us(now_us - last_output_us_);
    }
  }
  if (has_output) last_output_us_ = now_us;
  if (metrics_ == nullptr || events.empty()) return;
  if (const auto* finished = std::get_if<Finished>(&events.back())) {
    metrics_->generation_ended(finish_label(finished->reason), &finished->usage, now_us - start_us_);
  } else if (std::holds_alternative<Failed>(events.back())) {
    metrics_->generation_ended("error", nullptr, now_us - start_us_);
  }
}

}  // namespace ds4
