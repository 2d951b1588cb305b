#pragma once

// Stands between the engine and a dialect's sink: gives every tool call its id, and remembers which sampled block the
// ids of a turn belong to, before the client can have seen the end of that turn. So dialects only copy
// ToolCallBegin::id. Used by the engine's thread, like the sink behind it.

#include <memory>
#include <string>
#include <vector>

#include "chat/replay_map.h"
#include "engine/request.h"

namespace ds4 {

class ReplaySink final : public EventSink {
 public:
  // map may be null: then the calls get their ids all the same. It must outlive the request.
  ReplaySink(std::shared_ptr<EventSink> inner, ReplayMap* map, std::string id_prefix)
      : inner_(std::move(inner)), map_(map), id_prefix_(std::move(id_prefix)) {}

  void on_events(OutputEvents events) override;

 private:
  const std::shared_ptr<EventSink> inner_;
  ReplayMap* const map_;
  const std::string id_prefix_;
  std::vector<std::string> ids_;
};

}  // namespace ds4
