#include "session/disk_mirror.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace ds4 {
namespace {

constexpr size_t kReadThreads = 4;

}  // namespace

std::vector<CheckpointInfo> DiskMirror::stored() const {
  std::vector<CheckpointInfo> infos;
  for (StoredCheckpoint& stored : store_->checkpoints()) {
    // Of another version of the layout, or with a reason that we do not know.
    if (stored.n_tokens < 1 || stored.n_tokens > cache_.limits().ctx_tokens ||
        stored.payload_bytes != cache_.layout().live_bytes(stored.n_tokens) ||
        stored.reason > static_cast<uint8_t>(CheckpointReason::kPrefix))
      continue;
    infos.push_back({.key = stored.key,
                     .parent = stored.parent,
                     .n_tokens = stored.n_tokens,
                     .tail_tokens = std::move(stored.tail_tokens),
                     .rendered_key = stored.rendered_key,
                     .reason = static_cast<CheckpointReason>(stored.reason)});
  }
  return infos;
}

bool DiskMirror::store_pages(const TokenPage* page) {
  std::vector<const TokenPage*> missing;
  for (; page != nullptr && !store_->has_page(page->key); page = page->parent.get()) missing.push_back(page);
  for (; !missing.empty(); missing.pop_back()) {
    const TokenPage& next = *missing.back();
    const StoredPage record{next.key, key_of(next.parent), next.tokens};
    const std::span<const std::byte> host = cache_.host_page(next.kv);
    const bool is_put = host.empty() ? store_->put_page(record, cache_.read_page(next.kv, kPageTokens))
                                     : store_->put_page(record, host);
    // Without effect where its parent was evicted a moment ago.
    if (!is_put || !store_->has_page(next.key)) return false;
  }
  return true;
}

bool DiskMirror::store(const Checkpoint& checkpoint) {
  if (!store_pages(checkpoint.parent.get())) return false;
  std::vector<std::byte> payload;
  const auto n_tail = static_cast<int32_t>(checkpoint.tail_tokens.size());
  if (n_tail > 0) payload = cache_.read_page(checkpoint.tail_page, n_tail);
  payload.insert(payload.end(), checkpoint.frontier.begin(), checkpoint.frontier.end());
  return store_->put_checkpoint({.key = checkpoint.key,
                                 .parent = key_of(checkpoint.parent),
                                 .n_tokens = checkpoint.n_tokens,
                                 .tail_tokens = checkpoint.tail_tokens,
                                 .rendered_key = checkpoint.rendered_key,
                                 .reason = static_cast<uint8_t>(checkpoint.reason)},
                                payload);
}

size_t DiskMirror::n_missing_pages(const Checkpoint& checkpoint) const {
  size_t n = 0;
  for (const TokenPage* page = checkpoint.parent.get(); page != nullptr && !store_->has_page(page->key);
       page = page->parent.get())
    ++n;
  return n;
}

// Copying out of the page cache and checking is work for more than one processor.
Result<void> DiskMirror::read_into(std::span<const Hash128> keys, std::span<LoadedPage> pages) {
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  std::optional<Error> error;
  const auto read_some = [&] {
    std::vector<std::byte> payload;
    for (size_t i = next++; i < keys.size(); i = next++) {
      const std::span<std::byte> host = cache_.host_page(pages[i].kv);
      if (host.empty()) payload.resize(cache_.layout().page_bytes);
      Result<StoredPage> read = store_->read_page(keys[i], host.empty() ? payload : host);
      const std::lock_guard lock(mutex);
      if (error) return;
      if (!read.ok()) {
        error = read.take_error();
        return;
      }
      pages[i].page = read.take_value();
      if (host.empty()) cache_.write_page(pages[i].kv, kPageTokens, payload);
    }
  };
  {
    const size_t n_more =
        std::min({kReadThreads, static_cast<size_t>(std::thread::hardware_concurrency()), keys.size()});
    std::vector<std::jthread> threads;
    for (size_t i = 1; i < n_more; ++i) {
      try {
        threads.emplace_back(read_some);
      } catch (const std::system_error&) {
        break;  // with as many as there are
      }
    }
    read_some();
  }
  if (error) return *error;
  return {};
}

// Each but the last is the parent of the one before it.
Result<std::vector<DiskMirror::LoadedPage>> DiskMirror::read_pages(std::span<const Hash128> keys,
                                                                   const MemorySource& memory) {
  if (!memory.make_room(static_cast<int32_t>(keys.size())))
    return make_error(ErrorCode::kOutOfMemory, "no {} free KV pages to restore into", keys.size());
  std::vector<LoadedPage> pages(keys.size());
  for (LoadedPage& page : pages) page.kv = cache_.new_page();
  TRY(read_into(keys, pages));
  for (size_t i = 0; i < pages.size(); ++i) {
    const StoredPage& page = pages[i].page;
    if (page.tokens.size() != static_cast<size_t>(kPageTokens))
      return make_error(ErrorCode::kCorrupt, "a stored page of {} tokens, expected {}", page.tokens.size(),
                        kPageTokens);
    if (i + 1 < pages.size() && page.parent != keys[i + 1])
      return make_error(ErrorCode::kCorrupt, "a stored page follows another one than was said");
  }
  return pages;
}

Result<std::shared_ptr<const Checkpoint>> DiskMirror::load(const CheckpointInfo& info, const MemorySource& memory) {
  std::vector<std::byte> payload(cache_.layout().live_bytes(info.n_tokens));
  const StoredCheckpoint stored = TRY(store_->read_checkpoint(info.key, payload));
  const auto n_full = static_cast<size_t>(info.n_tokens / kPageTokens);
  const auto n_tail = static_cast<size_t>(info.n_tokens % kPageTokens);
  if (stored.n_tokens != info.n_tokens || stored.tail_tokens.size() != n_tail)
    return make_error(ErrorCode::kCorrupt, "a stored checkpoint of {} tokens, expected {}", stored.n_tokens,
                      info.n_tokens);
  // From the last page backwards to one that is in memory.
  std::vector<Hash128> keys;
  std::shared_ptr<const TokenPage> page;
  for (const Hash128& key : store_->page_chain(stored.parent)) {
    page = memory.find_page(key);
    if (page != nullptr) break;
    keys.push_back(key);
  }
  if (keys.size() > n_full)
    return make_error(ErrorCode::kCorrupt, "more than {} stored pages before {} tokens", n_full, info.n_tokens);
  std::vector<LoadedPage> loaded = TRY(read_pages(keys, memory));
  for (auto it = loaded.rbegin(); it != loaded.rend(); ++it) {
    page = std::make_shared<TokenPage>(TokenPage{
        .key = it->page.key, .parent = std::move(page), .tokens = std::move(it->page.tokens), .kv = std::move(it->kv)});
  }
  size_t n_pages = 0;
  for (const TokenPage* p = page.get(); p != nullptr; p = p->parent.get()) ++n_pages;
  if (n_pages != n_full)
    return make_error(ErrorCode::kCorrupt, "{} stored pages before {} tokens, expected {}", n_pages, info.n_tokens,
                      n_full);

  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->key = info.key;
  checkpoint->n_tokens = info.n_tokens;
  checkpoint->parent = std::move(page);
  checkpoint->tail_tokens = stored.tail_tokens;
  checkpoint->rendered_key = stored.rendered_key;
  checkpoint->reason = info.reason;
  const auto n_tail_bytes = total_bytes(cache_.layout().live_page(static_cast<int32_t>(n_tail)));
  if (n_tail > 0) {
    if (!memory.make_room(1)) return make_error(ErrorCode::kOutOfMemory, "no free KV page to restore into");
    checkpoint->tail_page = cache_.new_page();
    cache_.write_page(checkpoint->tail_page, static_cast<int32_t>(n_tail), std::span(payload).first(n_tail_bytes));
  }
  checkpoint->frontier.assign(payload.begin() + static_cast<std::ptrdiff_t>(n_tail_bytes), payload.end());
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

}  // namespace ds4
