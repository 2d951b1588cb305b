#include "server/replay_sink.h"

#include <utility>

#include "server/api.h"

namespace ds4 {
namespace {

// Nobody guesses them, and no two are the same.
constexpr size_t kIdBytes = 16;

}  // namespace

void ReplaySink::on_events(OutputEvents events) {
  for (OutputEvent& event : events) {
    if (auto* begin = std::get_if<ToolCallBegin>(&event)) {
      begin->id = random_id(id_prefix_, kIdBytes);
      ids_.push_back(begin->id);
    }
    if (auto* finished = std::get_if<Finished>(&event); finished != nullptr && finished->sampled_calls) {
      if (map_ != nullptr) map_->record(ids_, std::move(*finished->sampled_calls));
      finished->sampled_calls.reset();
    }
  }
  inner_->on_events(std::move(events));
}

}  // namespace ds4
