#include "chat/replay_map.h"

#include <iterator>
#include <utility>

namespace ds4 {
namespace {

// What an id and a block take beside their text: list and hash nodes, the shared block's header.
constexpr size_t kEntryOverheadBytes = 160;
constexpr size_t kBlockOverheadBytes = 160;

// Ours are far shorter; others are not looked for.
constexpr size_t kMaxIdBytes = 256;

// Stored values: a block (chat/sampled_calls.h), or the id that has it.
constexpr char kReference = '@';

std::string store_key(std::string_view id) { return "tool_call/" + std::string(id); }

}  // namespace

size_t ReplayMap::bytes_of(const Entry& entry) { return kEntryOverheadBytes + entry.id.size(); }
size_t ReplayMap::bytes_of(const SampledCalls& sampled) { return kBlockOverheadBytes + sampled.text.size(); }

void ReplayMap::record(std::span<const std::string> ids, SampledCalls sampled) {
  if (ids.empty()) return;
  const auto block = std::make_shared<const SampledCalls>(std::move(sampled));
  // In reverse, so that a turn's first id, which the others refer to in the store, is the last to go.
  for (auto id = ids.rbegin(); id != ids.rend(); ++id) insert(*id, block);
  if (store_ != nullptr) write(ids, *block);
}

void ReplayMap::write(std::span<const std::string> ids, const SampledCalls& sampled) {
  const std::string key = store_key(ids.front());
  const std::string value = encode(sampled);
  if (key.size() + value.size() > store_->max_record_bytes()) return;
  store_->put(key, value);
  for (const std::string& id : ids.subspan(1)) store_->put(store_key(id), kReference + ids.front());
}

std::shared_ptr<const SampledCalls> ReplayMap::find(std::span<const ToolCall> calls) {
  if (calls.empty()) return nullptr;
  Block block;
  size_t n_missing = 0;
  bool in_memory = true;
  bool is_one = true;
  for (const ToolCall& call : calls) {
    const Found found = look_up(call.id);
    in_memory = in_memory && found.in_memory;
    if (found.block == nullptr) {
      ++n_missing;
    } else if (block == nullptr) {
      block = found.block;
    } else {
      is_one = is_one && *found.block == *block;
    }
  }
  const bool matches = n_missing == 0 && is_one && says_the_same(*block, calls);
  const std::lock_guard lock(mutex_);
  statistics_.n_missing_ids += n_missing;
  if (matches) {
    ++(in_memory ? statistics_.n_memory : statistics_.n_store);
    return block;
  }
  ++statistics_.n_canonical;
  if (n_missing == 0) ++statistics_.n_changed;
  return nullptr;
}

ReplayMap::Found ReplayMap::look_up(const std::string& id) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = by_id_.find(id); known != by_id_.end()) {
      entries_.splice(entries_.begin(), entries_, known->second);
      return {.block = known->second->block};
    }
  }
  if (store_ == nullptr || id.empty() || id.size() > kMaxIdBytes) return {};
  Block block = read(id);
  if (block != nullptr) block = insert(id, std::move(block));
  return {.block = std::move(block), .in_memory = false};
}

ReplayMap::Block ReplayMap::read(const std::string& id) {
  std::optional<std::string> value = store_->find(store_key(id));
  if (value && value->starts_with(kReference)) value = store_->find(store_key(value->substr(1)));
  if (!value) return nullptr;
  Result<SampledCalls> sampled = decode_sampled_calls(*value);
  return sampled.ok() ? std::make_shared<const SampledCalls>(sampled.take_value()) : nullptr;
}

// Returns the block that stands for this one from now on.
ReplayMap::Block ReplayMap::insert(const std::string& id, Block block) {
  const std::lock_guard lock(mutex_);
  // One that is too large even alone would only push out all others.
  if (kEntryOverheadBytes + id.size() + bytes_of(*block) > limits_.max_bytes) return block;
  if (const auto known = by_id_.find(id); known != by_id_.end()) erase_locked(known->second);
  const auto [same, is_new] = n_ids_of_block_.try_emplace(std::move(block), 0);
  ++same->second;
  if (is_new) statistics_.n_bytes += bytes_of(*same->first);
  const Entry& entry = entries_.emplace_front(Entry{.id = id, .block = same->first});
  by_id_.emplace(entry.id, entries_.begin());
  statistics_.n_bytes += bytes_of(entry);
  Block kept = entry.block;
  while (!entries_.empty() && (entries_.size() > limits_.max_ids || statistics_.n_bytes > limits_.max_bytes)) {
    erase_locked(std::prev(entries_.end()));
  }
  return kept;
}

void ReplayMap::erase_locked(std::list<Entry>::iterator entry) {
  const auto block = n_ids_of_block_.find(entry->block);
  statistics_.n_bytes -= bytes_of(*entry);
  if (--block->second == 0) {
    statistics_.n_bytes -= bytes_of(*entry->block);
    n_ids_of_block_.erase(block);
  }
  by_id_.erase(entry->id);
  entries_.erase(entry);
}

ReplayStatistics ReplayMap::statistics() const {
  const std::lock_guard lock(mutex_);
  ReplayStatistics result = statistics_;
  result.n_ids = entries_.size();
  result.n_blocks = n_ids_of_block_.size();
  return result;
}

}  // namespace ds4
