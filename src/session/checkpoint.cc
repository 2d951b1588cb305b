#include "session/checkpoint.h"

#include <algorithm>

namespace ds4 {
namespace {

bool equal(std::span<const int32_t> a, std::span<const int32_t> b) { return std::ranges::equal(a, b); }

}  // namespace

Hash128 checkpoint_key(const Hash128& root, std::span<const int32_t> tokens) {
  Hash128 key = root;
  for (; tokens.size() >= kPageTokens; tokens = tokens.subspan(kPageTokens))
    key = page_key(key, tokens.first(kPageTokens));
  return page_key(key, tokens);
}

Hash128 key_of(const std::shared_ptr<const TokenPage>& page) { return page == nullptr ? Hash128{} : page->key; }

std::vector<int32_t> Checkpoint::tokens() const {
  std::vector<int32_t> all(static_cast<size_t>(n_tokens));
  size_t end = all.size() - tail_tokens.size();
  std::ranges::copy(tail_tokens, all.begin() + static_cast<std::ptrdiff_t>(end));
  for (const TokenPage* page = parent.get(); page != nullptr; page = page->parent.get()) {
    end -= page->tokens.size();
    std::ranges::copy(page->tokens, all.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return all;
}

bool Checkpoint::is_prefix_of(std::span<const int32_t> prompt) const {
  if (prompt.size() < static_cast<size_t>(n_tokens)) return false;
  size_t end = static_cast<size_t>(n_tokens) - tail_tokens.size();
  if (!equal(prompt.subspan(end, tail_tokens.size()), tail_tokens)) return false;
  for (const TokenPage* page = parent.get(); page != nullptr; page = page->parent.get()) {
    end -= page->tokens.size();
    if (!equal(prompt.subspan(end, page->tokens.size()), page->tokens)) return false;
  }
  return true;
}

void Checkpoint::restore_into(KvState& kv) const {
  std::vector<PageRef> pages;
  if (!tail_tokens.empty()) pages.push_back(tail_page.share());
  for (const TokenPage* page = parent.get(); page != nullptr; page = page->parent.get())
    pages.push_back(page->kv.share());
  std::ranges::reverse(pages);
  kv.restore(n_tokens, pages, frontier);
}

}  // namespace ds4
