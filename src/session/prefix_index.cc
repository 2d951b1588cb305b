#include "session/prefix_index.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "session/rendered_keys.h"

namespace ds4 {
namespace {

constexpr double kHalfLifeLookups = 64;  // after as many look-ups without a use, an entry is worth half
constexpr int32_t kLeastGapTokens = 16;

// How likely the state is to be wanted, in parts of how likely one in the middle of a conversation is, where only a
// change of the history leads. Where a conversation stands, its next prompt begins.
double weight_of(CheckpointReason reason) {
  switch (reason) {
    case CheckpointReason::kInterval: return 1;
    case CheckpointReason::kMessage: return 2;
    case CheckpointReason::kPreempted:
    case CheckpointReason::kPromptEnd:
    case CheckpointReason::kTurnEnd: return 64;
    case CheckpointReason::kPrefix: return 16;
  }
  return 1;
}

bool is_end(CheckpointReason reason) {
  return reason == CheckpointReason::kPromptEnd || reason == CheckpointReason::kTurnEnd;
}

// Pages that would go with the checkpoint.
int32_t pages_held_alone(const std::shared_ptr<const Checkpoint>& checkpoint) {
  int32_t n = 0;
  for (const auto* page = &checkpoint->parent; *page != nullptr && page->use_count() == 1; page = &(*page)->parent) ++n;
  return n + (checkpoint->tail_tokens.empty() ? 0 : 1);
}

void erase_pair(std::unordered_multimap<Hash128, Hash128>& map, const Hash128& key, const Hash128& value) {
  const auto [first, last] = map.equal_range(key);
  const auto found = std::find_if(first, last, [&](const auto& pair) { return pair.second == value; });
  if (found != last) map.erase(found);
}

}  // namespace

CheckpointInfo info_of(const Checkpoint& checkpoint) {
  return {.key = checkpoint.key,
          .parent = key_of(checkpoint.parent),
          .n_tokens = checkpoint.n_tokens,
          .tail_tokens = checkpoint.tail_tokens,
          .rendered_key = checkpoint.rendered_key,
          .reason = checkpoint.reason};
}

std::vector<PrefixMatch> PrefixIndex::find(std::span<const int32_t> prompt, int32_t max_tokens,
                                           const Hash128& root) const {
  std::vector<PrefixMatch> matches;
  if (entries_.empty()) return matches;
  const std::span<const int32_t> usable = prompt.first(std::min(prompt.size(), static_cast<size_t>(max_tokens)));
  Hash128 page = root;
  for (size_t begin = 0;; begin += kPageTokens) {
    const std::span<const int32_t> rest = usable.subspan(begin);
    // Entries without a full page are together, whatever their root.
    const auto [first, last] = by_parent_.equal_range(begin == 0 ? Hash128{} : page);
    for (auto it = first; it != last; ++it) {
      const CheckpointInfo& info = entries_.at(it->second).info;
      const size_t n_tail = info.tail_tokens.size();
      if (static_cast<size_t>(info.n_tokens) != begin + n_tail || n_tail > rest.size()) continue;
      if (!std::ranges::equal(rest.first(n_tail), info.tail_tokens)) continue;
      if (page_key(page, info.tail_tokens) == info.key) matches.push_back({info.key, info.n_tokens, false});
    }
    if (rest.size() < kPageTokens) break;
    page = page_key(page, rest.first(kPageTokens));
  }
  if (tokenizer_ != nullptr && !by_rendering_.empty()) {
    for (const RenderedBoundary& boundary : rendered_boundaries(*tokenizer_, usable, root)) {
      const auto [first, last] = by_rendering_.equal_range(boundary.key);
      for (auto it = first; it != last; ++it)
        matches.push_back({it->second, static_cast<int32_t>(boundary.n_tokens), true});
    }
  }
  std::ranges::sort(matches, [](const PrefixMatch& a, const PrefixMatch& b) {
    if (a.n_prompt_tokens != b.n_prompt_tokens) return a.n_prompt_tokens > b.n_prompt_tokens;
    return a.is_rendered != b.is_rendered ? a.is_rendered < b.is_rendered : a.key < b.key;
  });
  return matches;
}

std::shared_ptr<const TokenPage> PrefixIndex::find_page(const Hash128& key) const {
  const auto found = pages_.find(key);
  return found == pages_.end() ? nullptr : found->second.lock();
}

PrefixIndex::Entry& PrefixIndex::insert(const CheckpointInfo& info) {
  const auto [it, is_new] = entries_.try_emplace(info.key);
  Entry& entry = it->second;
  if (!is_new) {
    entry.info.reason = std::max(entry.info.reason, info.reason);
    return entry;
  }
  entry.info = info;
  entry.last_used = clock_;
  by_parent_.emplace(info.parent, info.key);
  if (info.rendered_key != Hash128{}) by_rendering_.emplace(info.rendered_key, info.key);
  return entry;
}

void PrefixIndex::add(std::shared_ptr<const Checkpoint> checkpoint, const Hash128& root) {
  // Looked up before the entry is there: it would find itself.
  Hash128 ancestor;
  if (const auto matches = find(checkpoint->tokens(), checkpoint->n_tokens - 1, root); !matches.empty()) {
    ancestor = matches.front().key;
  }
  Entry& entry = insert(info_of(*checkpoint));
  if (entry.checkpoint != nullptr) return;
  entry.ancestor = ancestor;
  if (entry.info.reason == CheckpointReason::kPromptEnd) overtake(ancestor);
  frontier_bytes_ += checkpoint->frontier.size();
  ++n_in_memory_;
  entry.checkpoint = std::move(checkpoint);
}

// The conversation has gone on from here.
void PrefixIndex::overtake(const Hash128& key) {
  for (auto found = entries_.find(key); found != entries_.end(); found = entries_.find(found->second.ancestor)) {
    Entry& entry = found->second;
    if (!is_end(entry.info.reason)) continue;
    if (entry.is_overtaken) return;
    entry.is_overtaken = true;
  }
}

void PrefixIndex::add_stored(const CheckpointInfo& info) { insert(info).is_stored = true; }

void PrefixIndex::set_stored(const Hash128& key, bool is_stored) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  found->second.is_stored = is_stored;
  if (!is_stored && found->second.checkpoint == nullptr) remove(key);
}

std::shared_ptr<const Checkpoint> PrefixIndex::checkpoint(const Hash128& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : found->second.checkpoint;
}

const CheckpointInfo* PrefixIndex::info(const Hash128& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : &found->second.info;
}

int32_t PrefixIndex::stored_ancestor_tokens(const Hash128& key) const {
  for (auto found = entries_.find(key); found != entries_.end(); found = entries_.find(found->second.ancestor)) {
    if (found->second.is_stored) return found->second.info.n_tokens;
  }
  return 0;
}

bool PrefixIndex::is_ancestor(const Hash128& earlier, const Hash128& later) const {
  for (auto found = entries_.find(later); found != entries_.end(); found = entries_.find(found->second.ancestor)) {
    if (found->second.ancestor == earlier) return true;
  }
  return false;
}

void PrefixIndex::renew(const Hash128& key, CheckpointReason reason) {
  Entry& entry = entries_.at(key);
  entry.info.reason = std::max(entry.info.reason, reason);
  entry.is_overtaken = false;
  entry.last_used = clock_;
}

void PrefixIndex::touch(const Hash128& key) {
  ++clock_;
  auto found = entries_.find(key);
  if (found != entries_.end()) ++found->second.n_hits;
  // Ancestors are shorter, so this ends.
  for (; found != entries_.end(); found = entries_.find(found->second.ancestor)) found->second.last_used = clock_;
}

double PrefixIndex::value(const Entry& entry) const {
  const auto ancestor = entries_.find(entry.ancestor);
  const int32_t base = ancestor == entries_.end() ? 0 : ancestor->second.info.n_tokens;
  const double gap = std::max(entry.info.n_tokens - base, kLeastGapTokens);
  const auto age = static_cast<double>(clock_ - entry.last_used);
  // What is stored comes back without computing.
  const double stored = entry.is_stored ? 0.25 : 1.0;
  const double weight = entry.is_overtaken ? 1.0 : weight_of(entry.info.reason);
  return gap * weight * (1.0 + entry.n_hits) * stored * std::exp2(-age / kHalfLifeLookups);
}

std::shared_ptr<const Checkpoint> PrefixIndex::evict(bool must_hold_pages) {
  Entry* worst = nullptr;
  Entry* worst_with_pages = nullptr;
  for (auto& [key, entry] : entries_) {
    if (entry.checkpoint == nullptr) continue;
    const auto is_worse = [&](const Entry* than) {
      if (than == nullptr) return true;
      const double a = value(entry);
      const double b = value(*than);
      return a != b ? a < b : key < than->info.key;
    };
    if (is_worse(worst)) worst = &entry;
    if (must_hold_pages && pages_held_alone(entry.checkpoint) > 0 && is_worse(worst_with_pages))
      worst_with_pages = &entry;
  }
  if (worst_with_pages != nullptr) worst = worst_with_pages;
  if (worst == nullptr) return nullptr;
  std::shared_ptr<const Checkpoint> evicted = worst->checkpoint;
  drop_checkpoint(*worst);
  if (!worst->is_stored) remove(evicted->key);
  return evicted;
}

void PrefixIndex::drop_checkpoint(Entry& entry) {
  if (entry.checkpoint == nullptr) return;
  frontier_bytes_ -= entry.checkpoint->frontier.size();
  --n_in_memory_;
  entry.checkpoint = nullptr;
  if (pages_.size() > 1024 && pages_.size() > 4 * entries_.size())
    std::erase_if(pages_, [](const auto& page) { return page.second.expired(); });
}

void PrefixIndex::remove(const Hash128& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  drop_checkpoint(found->second);
  const CheckpointInfo info = std::move(found->second.info);
  const Hash128 ancestor = found->second.ancestor;
  entries_.erase(found);
  erase_pair(by_parent_, info.parent, info.key);
  if (info.rendered_key != Hash128{}) erase_pair(by_rendering_, info.rendered_key, info.key);
  for (auto& [other, entry] : entries_) {
    if (entry.ancestor == info.key) entry.ancestor = ancestor;
  }
}

}  // namespace ds4
