#include "session/store_content.h"

#include <algorithm>

#include "base/rng.h"

namespace ds4::test {

std::vector<std::byte> payload_of(const Hash128& key, uint64_t n_bytes) {
  Xorshift64Star random(key.low);
  std::vector<std::byte> payload(n_bytes);
  for (std::byte& byte : payload) byte = static_cast<std::byte>(random.next() >> 56);
  return payload;
}

uint64_t checkpoint_bytes_of(const Hash128& key) {
  constexpr uint64_t kLargest = 3000;
  return key.high % kLargest;
}

std::string blob_of(const std::string& key) { return "value of " + key; }

std::vector<int32_t> Conversation::tokens(int first, int last) const {
  constexpr int32_t kFarApart = 100000;
  std::vector<int32_t> tokens;
  for (int i = first; i < last; ++i) tokens.push_back(i + (i < n_shared_ ? 0 : kFarApart * (1 + number_)));
  return tokens;
}

StoredPage Conversation::page(int index) const {
  StoredPage page;
  for (int i = 0; i <= index; ++i) {
    page.parent = page.key;
    page.tokens = tokens(i * kTokensPerPage, (i + 1) * kTokensPerPage);
    page.key = page_key(page.parent, page.tokens);
  }
  return page;
}

StoredCheckpoint Conversation::checkpoint(int n_tokens) const {
  const int n_pages = n_tokens / kTokensPerPage;
  StoredCheckpoint checkpoint{.n_tokens = n_tokens};
  if (n_pages > 0) checkpoint.parent = page(n_pages - 1).key;
  checkpoint.tail_tokens = tokens(n_pages * kTokensPerPage, n_tokens);
  checkpoint.key = page_key(checkpoint.parent, checkpoint.tail_tokens);
  checkpoint.rendered_key = {checkpoint.key.high, checkpoint.key.low};
  checkpoint.reason = static_cast<uint8_t>(n_tokens % 7);
  checkpoint.payload_bytes = checkpoint_bytes_of(checkpoint.key);
  return checkpoint;
}

bool put_page(DiskStore& store, const StoredPage& page) {
  return store.put_page(page, payload_of(page.key, kPageBytes));
}

bool put_checkpoint(DiskStore& store, const StoredCheckpoint& checkpoint) {
  return store.put_checkpoint(checkpoint, payload_of(checkpoint.key, checkpoint.payload_bytes));
}

bool put_conversation(DiskStore& store, const Conversation& conversation, int n_tokens) {
  for (int i = 0; i < n_tokens / kTokensPerPage; ++i) {
    if (!put_page(store, conversation.page(i))) return false;
  }
  return put_checkpoint(store, conversation.checkpoint(n_tokens));
}

namespace {

std::string check_page(DiskStore& store, const Hash128& key, StoredPage& page) {
  std::vector<std::byte> payload(kPageBytes);
  auto read = store.read_page(key, payload);
  if (!read.ok()) return "missing";
  page = read.take_value();
  if (page.key != key || page_key(page.parent, page.tokens) != key) return "a page of another key";
  if (payload != payload_of(key, kPageBytes)) return "a page with other bytes";
  return "";
}

}  // namespace

std::string check_restore(DiskStore& store, const StoredCheckpoint& checkpoint) {
  std::vector<std::byte> payload(checkpoint_bytes_of(checkpoint.key));
  const auto read = store.read_checkpoint(checkpoint.key, payload);
  if (!read.ok()) return "missing";
  const StoredCheckpoint& found = read.value();
  if (page_key(found.parent, found.tail_tokens) != checkpoint.key || found.key != checkpoint.key) return "another key";
  if (payload != payload_of(checkpoint.key, payload.size())) return "other bytes";
  if (found.rendered_key != Hash128{found.key.high, found.key.low} || found.reason != found.n_tokens % 7) {
    return "other fields";
  }
  int n_tokens = static_cast<int>(found.tail_tokens.size());
  for (Hash128 key = found.parent; key != Hash128{};) {
    StoredPage page;
    if (std::string problem = check_page(store, key, page); !problem.empty()) return problem;
    n_tokens += static_cast<int>(page.tokens.size());
    key = page.parent;
  }
  return n_tokens == found.n_tokens ? "" : "another number of tokens";
}

std::string check_everything(DiskStore& store, int* n_restored) {
  for (const StoredCheckpoint& checkpoint : store.checkpoints()) {
    const std::string problem = check_restore(store, checkpoint);
    if (!problem.empty() && problem != "missing") return to_text(checkpoint.key) + ": " + problem;
    if (problem.empty() && n_restored != nullptr) ++*n_restored;
  }
  return "";
}

}  // namespace ds4::test
