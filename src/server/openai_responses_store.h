#pragma once

// Responses that clients may ask for again: by id, as the beginning of another one, or item by item. Bounded by their
// number and by the bytes of their texts; those that were not used for longest go first. Items are shared: a response
// that continues another one holds the same texts, so each is counted once. In memory only. Any thread.

#include <cstddef>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ds4 {

// One input or output item.
struct StoredItem {
  std::string id;
  std::string json;
};
using StoredItemPtr = std::shared_ptr<const StoredItem>;

struct StoredResponse {
  std::string id;
  std::string json;                  // the whole response object
  std::vector<StoredItemPtr> input;  // of the responses that it continues, too
  std::vector<StoredItemPtr> output;
};

class ResponseStore {
 public:
  struct Limits {
    size_t max_responses = 1000;
    size_t max_bytes = size_t{256} << 20;
  };

  ResponseStore() : ResponseStore(Limits{}) {}
  explicit ResponseStore(Limits limits) : limits_(limits) {}

  // One that is too large by itself is not kept.
  void put(StoredResponse response);
  std::shared_ptr<const StoredResponse> find(std::string_view id);
  bool erase(std::string_view id);
  // Of any response that is there.
  StoredItemPtr find_item(std::string_view id) const;

  size_t n_responses() const;
  size_t n_bytes() const;

 private:
  using Entry = std::shared_ptr<const StoredResponse>;
  using Entries = std::list<Entry>;

  void remove(Entries::iterator entry);
  void hold(const StoredItemPtr& item);
  void release(const StoredItemPtr& item);

  const Limits limits_;
  mutable std::mutex mutex_;
  Entries entries_;  // those used last in front
  std::unordered_map<std::string, Entries::iterator> by_id_;
  std::unordered_map<const StoredItem*, size_t> n_holders_;
  std::unordered_map<std::string, StoredItemPtr> items_;
  size_t n_bytes_ = 0;
};

}  // namespace ds4
