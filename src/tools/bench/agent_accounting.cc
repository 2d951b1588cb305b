#include "tools/bench/agent_accounting.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace ds4 {
namespace {

int32_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto [end, other] = std::ranges::mismatch(a, b);
  return static_cast<int32_t>(end - a.begin());
}

}  // namespace

int32_t KnownPrefixes::shared_tokens(std::span<const int32_t> tokens) const {
  const auto after = sequences_.lower_bound(std::vector<int32_t>(tokens.begin(), tokens.end()));
  int32_t most = 0;
  if (after != sequences_.end()) most = common_prefix(tokens, *after);
  if (after != sequences_.begin()) most = std::max(most, common_prefix(tokens, *std::prev(after)));
  return most;
}

int32_t KnownPrefixes::new_tokens(std::span<const int32_t> tokens) const {
  return std::max(static_cast<int32_t>(tokens.size()) - shared_tokens(tokens), 1);
}

void KnownPrefixes::add(std::vector<int32_t> tokens) {
  const auto [place, is_new] = sequences_.insert(std::move(tokens));
  if (!is_new) return;
  const auto is_prefix_of = [](const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
    return a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
  };
  if (const auto after = std::next(place); after != sequences_.end() && is_prefix_of(*place, *after)) {
    sequences_.erase(place);
    return;
  }
  // Prefixes of it stand right before it, the longest last.
  while (place != sequences_.begin() && is_prefix_of(*std::prev(place), *place)) sequences_.erase(std::prev(place));
}

}  // namespace ds4
