#include "server/openai_responses_store.h"

#include <iterator>
#include <utility>

namespace ds4 {
namespace {

// Of list and hash nodes.
constexpr size_t kResponseOverheadBytes = 256;
constexpr size_t kItemOverheadBytes = 256;

size_t bytes_of(const StoredItem& item) { return kItemOverheadBytes + item.id.size() + item.json.size(); }

size_t bytes_of(const StoredResponse& response) {
  return kResponseOverheadBytes + response.id.size() + response.json.size() +
         (response.input.size() + response.output.size()) * sizeof(StoredItemPtr);
}

}  // namespace

void ResponseStore::put(StoredResponse response) {
  const std::lock_guard lock(mutex_);
  if (const auto known = by_id_.find(response.id); known != by_id_.end()) remove(known->second);
  for (const StoredItemPtr& item : response.input) hold(item);
  for (const StoredItemPtr& item : response.output) hold(item);
  n_bytes_ += bytes_of(response);
  entries_.push_front(std::make_shared<const StoredResponse>(std::move(response)));
  by_id_[entries_.front()->id] = entries_.begin();
  while (!entries_.empty() && (entries_.size() > limits_.max_responses || n_bytes_ > limits_.max_bytes)) {
    remove(std::prev(entries_.end()));
  }
}

void ResponseStore::remove(Entries::iterator entry) {
  const Entry response = std::move(*entry);
  entries_.erase(entry);
  by_id_.erase(response->id);
  n_bytes_ -= bytes_of(*response);
  for (const StoredItemPtr& item : response->input) release(item);
  for (const StoredItemPtr& item : response->output) release(item);
}

void ResponseStore::hold(const StoredItemPtr& item) {
  items_[item->id] = item;
  if (n_holders_[item.get()]++ == 0) n_bytes_ += bytes_of(*item);
}

void ResponseStore::release(const StoredItemPtr& item) {
  const auto holders = n_holders_.find(item.get());
  if (--holders->second > 0) return;
  n_holders_.erase(holders);
  n_bytes_ -= bytes_of(*item);
  // Clients choose the ids of input items: a newer one may have the same.
  const auto known = items_.find(item->id);
  if (known != items_.end() && known->second == item) items_.erase(known);
}

std::shared_ptr<const StoredResponse> ResponseStore::find(std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(std::string(id));
  if (found == by_id_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return entries_.front();
}

bool ResponseStore::erase(std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(std::string(id));
  if (found == by_id_.end()) return false;
  remove(found->second);
  return true;
}

StoredItemPtr ResponseStore::find_item(std::string_view id) const {
  const std::lock_guard lock(mutex_);
  const auto found = items_.find(std::string(id));
  return found == items_.end() ? nullptr : found->second;
}

size_t ResponseStore::n_responses() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

size_t ResponseStore::n_bytes() const {
  const std::lock_guard lock(mutex_);
  return n_bytes_;
}

}  // namespace ds4
