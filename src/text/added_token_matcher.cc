#include "text/added_token_matcher.h"

#include <algorithm>
#include <functional>

namespace ds4 {

void AddedTokenMatcher::add(std::string_view spelling, int32_t id) {
  if (spelling.empty()) return;
  ids_.emplace(spelling, id);
  std::vector<size_t>& lengths = lengths_[static_cast<uint8_t>(spelling.front())];
  const auto place = std::lower_bound(lengths.begin(), lengths.end(), spelling.size(), std::greater<>());
  if (place == lengths.end() || *place != spelling.size()) lengths.insert(place, spelling.size());
}

std::optional<AddedTokenMatcher::Match> AddedTokenMatcher::find(std::string_view text, size_t offset) const {
  for (; offset < text.size(); ++offset) {
    for (const size_t n_bytes : lengths_[static_cast<uint8_t>(text[offset])]) {
      if (n_bytes > text.size() - offset) continue;
      const auto found = ids_.find(text.substr(offset, n_bytes));
      if (found != ids_.end()) return Match{offset, n_bytes, found->second};
    }
  }
  return std::nullopt;
}

}  // namespace ds4
