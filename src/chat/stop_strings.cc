#include "chat/stop_strings.h"

#include <algorithm>
#include <utility>

#include "chat/markup.h"

namespace ds4 {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) { std::erase(strings_, ""); }

std::string StopStrings::push(std::string_view text) {
  if (found_) return {};
  waiting_.append(text);
  size_t first_end = std::string::npos;
  size_t n_safe = waiting_.size();
  for (const std::string& stop : strings_) {
    const size_t at = waiting_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (end > first_end || (end == first_end && at >= n_safe)) continue;
    n_safe = at;
    first_end = end;
    matched_ = stop;
  }
  found_ = first_end != std::string::npos;
  if (!found_) {
    for (const std::string& stop : strings_) {
      n_safe = std::min(n_safe, waiting_.size() - partial_marker_size(waiting_, stop));
    }
  }
  std::string safe = waiting_.substr(0, n_safe);
  waiting_.erase(0, found_ ? waiting_.size() : n_safe);
  return safe;
}

std::string StopStrings::finish() { return std::exchange(waiting_, {}); }

}  // namespace ds4
