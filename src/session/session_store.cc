#include "session/session_store.h"

#include <algorithm>
#include <utility>

#include "session/rendered_keys.h"

namespace ds4 {
namespace {

bool is_control(const Tokenizer& tokenizer, int32_t token) {
  return token < tokenizer.n_vocab() && tokenizer.is_control(token);
}

}  // namespace

SessionStore::SessionStore(KvCache& cache, const Tokenizer* tokenizer, const SessionOptions& options,
                           std::unique_ptr<DiskStore> disk)
    : cache_(cache), tokenizer_(tokenizer), options_(options), index_(tokenizer) {
  if (disk == nullptr) return;
  disk_.emplace(cache, std::move(disk));
  for (const CheckpointInfo& info : disk_->stored()) index_.add_stored(info);
}

RestoredPrefix SessionStore::restore(std::vector<int32_t>& prompt, KvState& kv, PrefixKind kind, size_t max_tokens,
                                     const Hash128& root) {
  const int64_t start_us = now_us();
  const auto most = static_cast<int32_t>(prompt.size()) - 1;
  for (const PrefixMatch& match : index_.find(prompt, most, root)) {
    if (match.is_rendered && kind == PrefixKind::kSameTokens) continue;
    const std::shared_ptr<const Checkpoint> checkpoint = load(match, prompt, root);
    if (checkpoint == nullptr) continue;
    const auto n_rest = prompt.size() - static_cast<size_t>(match.n_prompt_tokens);
    if (match.is_rendered) {
      if (static_cast<size_t>(checkpoint->n_tokens) + n_rest > max_tokens) continue;
      std::vector<int32_t> tokens = checkpoint->tokens();
      tokens.insert(tokens.end(), prompt.end() - static_cast<std::ptrdiff_t>(n_rest), prompt.end());
      prompt = std::move(tokens);
    }
    checkpoint->restore_into(kv);
    index_.touch(checkpoint->key);
    if (disk_) disk_->touch(checkpoint->key);
    keep_within_budget();
    ++statistics_.n_restored;
    statistics_.restore_us += now_us() - start_us;
    return {checkpoint->n_tokens, match.n_prompt_tokens};
  }
  return {};
}

// Null: gone, or its tokens are not what its key promised.
std::shared_ptr<const Checkpoint> SessionStore::load(const PrefixMatch& match, std::span<const int32_t> prompt,
                                                     const Hash128& root) {
  std::shared_ptr<const Checkpoint> checkpoint = index_.checkpoint(match.key);
  if (checkpoint == nullptr && disk_) checkpoint = load_from_disk(match.key, root);
  if (checkpoint == nullptr) return nullptr;
  const std::span<const int32_t> matched = prompt.first(static_cast<size_t>(match.n_prompt_tokens));
  const bool is_same = match.is_rendered ? same_rendering(*tokenizer_, checkpoint->tokens(), matched)
                                         : checkpoint->is_prefix_of(matched);
  // The key says which root it has.
  return is_same && checkpoint_key(root, checkpoint->tokens()) == checkpoint->key ? checkpoint : nullptr;
}

std::shared_ptr<const Checkpoint> SessionStore::load_from_disk(const Hash128& key, const Hash128& root) {
  const CheckpointInfo* known = index_.info(key);
  if (known == nullptr) return nullptr;
  const CheckpointInfo info = *known;  // making room changes the index
  Result<std::shared_ptr<const Checkpoint>> loaded =
      disk_->load(info, {.find_page = [this](const Hash128& page) { return index_.find_page(page); },
                         .make_room = [this](int32_t n_pages) { return make_room(n_pages); }});
  if (!loaded.ok()) {
    if (loaded.error().code != ErrorCode::kOutOfMemory) index_.set_stored(key, false);
    return nullptr;
  }
  std::shared_ptr<const Checkpoint> checkpoint = loaded.take_value();
  for (auto page = checkpoint->parent; page != nullptr && index_.find_page(page->key) == nullptr; page = page->parent)
    index_.remember_page(page);
  index_.add(checkpoint, root);
  ++statistics_.n_loaded;
  return checkpoint;
}

void SessionStore::save(std::span<const int32_t> tokens, bool before_control, CheckpointReason reason,
                        const KvState& kv, const Hash128& root) {
  CHECK(static_cast<int32_t>(tokens.size()) == kv.n_tokens() && !tokens.empty(), "{} tokens, {} in the KV state",
        tokens.size(), kv.n_tokens());
  if (kv.n_tokens() < options_.min_tokens) return;
  const int64_t start_us = now_us();
  const size_t n_full = tokens.size() / kPageTokens;
  const std::span<const int32_t> tail = tokens.subspan(n_full * kPageTokens);
  std::vector<Hash128> page_keys;
  Hash128 last_page = root;
  for (size_t i = 0; i < n_full; ++i) {
    last_page = page_key(last_page, tokens.subspan(i * kPageTokens, kPageTokens));
    page_keys.push_back(last_page);
  }
  const Hash128 key = page_key(last_page, tail);
  if (index_.checkpoint(key) != nullptr) return index_.renew(key, reason);

  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->key = key;
  checkpoint->n_tokens = kv.n_tokens();
  checkpoint->reason = reason;
  if (tokenizer_ != nullptr && (before_control || is_control(*tokenizer_, tokens.back())))
    checkpoint->rendered_key = rendered_key(*tokenizer_, tokens, root);
  KvCheckpoint state = kv.checkpoint();
  checkpoint->frontier = std::move(state.frontier);
  for (size_t i = 0; i < n_full; ++i) {
    const std::span<const int32_t> page_tokens = tokens.subspan(i * kPageTokens, kPageTokens);
    checkpoint->parent = page_of(page_keys[i], checkpoint->parent, page_tokens, std::move(state.pages[i]));
  }
  checkpoint->tail_tokens.assign(tail.begin(), tail.end());
  if (!tail.empty()) checkpoint->tail_page = std::move(state.pages[n_full]);
  index_.add(checkpoint, root);
  // Pages of conversations that may never be worth a checkpoint on disk come with one, or not at all.
  if (disk_ && checkpoint->n_tokens >= options_.disk_least_tokens) disk_->store_pages(checkpoint->parent.get());
  if (disk_) plan_storing(checkpoint);
  keep_within_budget();
  ++statistics_.n_saved;
  statistics_.saved_frontier_bytes += checkpoint->frontier.size();
  statistics_.most_frontier_bytes = std::max<uint64_t>(statistics_.most_frontier_bytes, checkpoint->frontier.size());
  statistics_.save_us += now_us() - start_us;
}

void SessionStore::keep_within_budget() {
  while (index_.frontier_bytes() > options_.max_frontier_bytes && forget_one(false)) {
  }
}

// The checkpoint of least value; where a conversation rests is written first.
bool SessionStore::forget_one(bool must_hold_pages) {
  const std::shared_ptr<const Checkpoint> evicted = index_.evict(must_hold_pages);
  if (evicted == nullptr) return false;
  const auto found =
      std::ranges::find_if(resting_, [&](const Resting& other) { return other.checkpoint.lock() == evicted; });
  if (found == resting_.end()) return true;
  const bool is_worth_it = found->n_tokens >= options_.disk_least_tokens;
  resting_.erase(found);
  if (is_worth_it && disk_->store(*evicted)) index_.add_stored(info_of(*evicted));
  return true;
}

// What a restart would cost without it.
int32_t SessionStore::tokens_after_stored(const Checkpoint& checkpoint) const {
  return checkpoint.n_tokens - index_.stored_ancestor_tokens(checkpoint.key);
}

// A head that others will start from is written at once. So is a conversation that has come far since the last one on
// disk, but where windows are closed and a checkpoint is smallest. Ends wait for store_resting(), and most are
// overtaken before.
void SessionStore::plan_storing(const std::shared_ptr<const Checkpoint>& checkpoint) {
  const CheckpointReason reason = checkpoint->reason;
  const int32_t n_tokens = tokens_after_stored(*checkpoint);
  const bool is_head = reason == CheckpointReason::kPrefix && n_tokens >= options_.disk_least_tokens;
  const bool is_far = reason == CheckpointReason::kInterval && n_tokens >= options_.disk_interval_tokens;
  if (is_head || is_far) {
    if (disk_->store(*checkpoint)) index_.set_stored(checkpoint->key, true);
    return;
  }
  if (reason == CheckpointReason::kInterval || reason == CheckpointReason::kMessage) return;
  std::erase_if(resting_, [&](const Resting& other) {
    const std::shared_ptr<const Checkpoint> earlier = other.checkpoint.lock();
    return earlier == nullptr || index_.is_ancestor(earlier->key, checkpoint->key);
  });
  resting_.push_back({.checkpoint = checkpoint, .n_tokens = n_tokens});
}

bool SessionStore::store_resting(RestKind kind) {
  if (!disk_) return true;
  const int32_t least = kind == RestKind::kPause ? options_.disk_rest_tokens : options_.disk_least_tokens;
  bool is_full = false;
  std::vector<Resting> left;
  for (const Resting& resting : resting_) {
    const std::shared_ptr<const Checkpoint> checkpoint = resting.checkpoint.lock();
    if (checkpoint == nullptr) continue;
    if (is_full || tokens_after_stored(*checkpoint) < least) {
      left.push_back(resting);
    } else if (disk_->store(*checkpoint)) {
      index_.set_stored(checkpoint->key, true);
    } else {
      // The next try starts here, with an empty queue.
      is_full = true;
      const size_t n_missing = disk_->n_missing_pages(*checkpoint);
      if (kind == RestKind::kEnd && resting.n_missing && n_missing >= *resting.n_missing) {
        ++statistics_.n_given_up;
      } else {
        left.push_back({resting.checkpoint, resting.n_tokens, n_missing});
      }
    }
  }
  resting_ = std::move(left);
  return !is_full;
}

Result<void> SessionStore::flush() { return disk_ ? disk_->store().flush() : Result<void>(); }

// The page that conversations with the same tokens share; `kv` becomes it where there is none.
std::shared_ptr<const TokenPage> SessionStore::page_of(const Hash128& key, std::shared_ptr<const TokenPage> parent,
                                                       std::span<const int32_t> tokens, PageRef kv) {
  std::shared_ptr<const TokenPage> page = index_.find_page(key);
  if (page != nullptr && page->parent == parent && std::ranges::equal(page->tokens, tokens)) return page;
  page = std::make_shared<TokenPage>(TokenPage{
      .key = key, .parent = std::move(parent), .tokens = {tokens.begin(), tokens.end()}, .kv = std::move(kv)});
  index_.remember_page(page);
  return page;
}

bool SessionStore::make_room(int32_t n_pages) {
  while (cache_.n_free_pages() < n_pages) {
    if (!forget_one(true)) return false;
  }
  return true;
}

}  // namespace ds4
