#include "session/eviction.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>

#include "session/store_index.h"

namespace ds4 {

namespace {

using Page = StoreIndex::Page;
using Checkpoint = StoreIndex::Checkpoint;
constexpr size_t kPartEvicted = 16;

void note_longest(const std::vector<const Checkpoint*>& checkpoints, const StoreIndex& index) {
  for (const auto& [key, page] : index.pages()) {
    page.longest_here = 0;
    page.longest_so_far = -1;
  }
  for (const Checkpoint* checkpoint : checkpoints) {
    if (checkpoint->parent == nullptr) continue;
    int64_t& longest = checkpoint->parent->longest_here;
    longest = std::max<int64_t>(longest, checkpoint->stored.n_tokens);
  }
}

// Tokens of the longest checkpoint at a page or at any page before it. `chain` is memory to work in.
int64_t longest_at(const Page* page, std::vector<const Page*>& chain) {
  chain.clear();
  for (; page != nullptr && page->longest_so_far < 0; page = page->parent) chain.push_back(page);
  int64_t longest = page == nullptr ? 0 : page->longest_so_far;
  for (; !chain.empty(); chain.pop_back()) {
    longest = std::max(longest, chain.back()->longest_here);
    chain.back()->longest_so_far = longest;
  }
  return longest;
}

bool begins(const Checkpoint& shorter, const Checkpoint& longer) {
  const auto& a = shorter.stored.tail_tokens;
  const auto& b = longer.stored.tail_tokens;
  return shorter.parent == longer.parent && a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
}

// Per checkpoint the tokens of the nearest other one that could be used instead. Sorts them by page and tail: the
// prefixes of each are on a stack then when its turn comes. Whether a checkpoint behind the last full page of another
// one continues it cannot be told without the page's tokens; it is taken for granted, which errs by less than a page
// unless it was the only one before.
std::vector<int64_t> tokens_before(std::vector<const Checkpoint*>& checkpoints) {
  std::ranges::sort(checkpoints, [](const Checkpoint* a, const Checkpoint* b) {
    return std::tie(a->parent, a->stored.tail_tokens) < std::tie(b->parent, b->stored.tail_tokens);
  });
  std::vector<int64_t> tokens;
  tokens.reserve(checkpoints.size());
  std::vector<const Page*> chain;
  std::vector<const Checkpoint*> prefixes;
  for (const Checkpoint* checkpoint : checkpoints) {
    while (!prefixes.empty() && !begins(*prefixes.back(), *checkpoint)) prefixes.pop_back();
    const int64_t beside = prefixes.empty() ? 0 : prefixes.back()->stored.n_tokens;
    const int64_t earlier = checkpoint->parent == nullptr ? 0 : longest_at(checkpoint->parent->parent, chain);
    tokens.push_back(std::max(beside, earlier));
    prefixes.push_back(checkpoint);
  }
  return tokens;
}

uint64_t bytes_freed(const Checkpoint& checkpoint) {
  uint64_t n_bytes = checkpoint.place.n_bytes();
  for (const Page* page = checkpoint.parent; page != nullptr && page->n_children == 1; page = page->parent) {
    n_bytes += page->place.n_bytes();
  }
  return n_bytes;
}

double log_value(double hits, double age, int64_t n_tokens, uint64_t n_bytes) {
  return std::log2(1 + std::max(0.0, hits)) - age + std::log2(static_cast<double>(std::max<int64_t>(1, n_tokens))) -
         std::log2(static_cast<double>(n_bytes));
}

struct Rated {
  Victim victim;
  int64_t n_tokens = 0;
};

}  // namespace

double half_lives(int64_t since_s, int64_t now_s) {
  // In floating point: times come from files, and any may be there.
  return std::max(0.0, (static_cast<double>(now_s) - static_cast<double>(since_s)) / kHalfLifeSeconds);
}

std::vector<Victim> eviction_order(const StoreIndex& index, int64_t now_s) {
  std::vector<const Checkpoint*> checkpoints;
  checkpoints.reserve(index.checkpoints().size());
  for (const auto& [key, checkpoint] : index.checkpoints()) checkpoints.push_back(&checkpoint);
  note_longest(checkpoints, index);
  const std::vector<int64_t> before = tokens_before(checkpoints);
  std::vector<Rated> rated;
  rated.reserve(checkpoints.size());
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    const Checkpoint& one = *checkpoints[i];
    const double value =
        log_value(one.hits, half_lives(one.used_s, now_s), one.stored.n_tokens - before[i], bytes_freed(one));
    rated.push_back({{false, one.stored.key, one.used_s, value}, one.stored.n_tokens});
  }
  for (const auto& [key, page] : index.pages()) {
    if (page.n_children > 0 || index.is_pinned(key)) continue;
    const double value = log_value(0, half_lives(page.written_s, now_s), page.n_own_tokens, page.place.n_bytes());
    rated.push_back({{true, key, page.written_s, value}, page.n_tokens});
  }
  const auto order = [](const Rated& one) {
    return std::tuple(one.victim.log_value, one.victim.used_s, one.n_tokens, one.victim.key);
  };
  const size_t n = rated.empty() ? 0 : std::max<size_t>(1, rated.size() / kPartEvicted);
  std::ranges::partial_sort(rated, rated.begin() + static_cast<std::ptrdiff_t>(n), {}, order);
  std::vector<Victim> victims;
  for (const Rated& one : std::span(rated).first(n)) victims.push_back(one.victim);
  return victims;
}

}  // namespace ds4
