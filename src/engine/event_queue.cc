#include "engine/event_queue.h"

#include <iterator>
#include <utility>

namespace ds4 {

void EventQueue::on_events(OutputEvents events) {
  {
    const std::lock_guard lock(mutex_);
    events_.insert(events_.end(), std::make_move_iterator(events.begin()), std::make_move_iterator(events.end()));
  }
  has_events_.notify_one();
}

OutputEvents EventQueue::pop() {
  std::unique_lock lock(mutex_);
  has_events_.wait(lock, [this] { return !events_.empty(); });
  return std::exchange(events_, {});
}

}  // namespace ds4
