#include "model/kv_cache.h"

#include <algorithm>
#include <utility>

namespace ds4 {

namespace {

constexpr int32_t kNoWriter = -1;

int32_t pages_for(int32_t n_tokens) { return (n_tokens + kPageTokens - 1) / kPageTokens; }

TensorView part(TensorView row, const ByteRange& range) {
  row.offset_bytes += range.offset;
  row.shape = {static_cast<int64_t>(range.size_bytes)};
  return row;
}

}  // namespace

PageRef::PageRef(PageRef&& other) noexcept
    : cache_(std::exchange(other.cache_, nullptr)), id_(std::exchange(other.id_, -1)) {}

PageRef& PageRef::operator=(PageRef&& other) noexcept {
  std::swap(cache_, other.cache_);
  std::swap(id_, other.id_);
  return *this;
}

PageRef::~PageRef() {
  if (cache_ == nullptr) return;
  if (--cache_->page_references_[static_cast<size_t>(id_)] == 0) cache_->free_pages_.push_back(id_);
}

PageRef PageRef::share() const {
  CHECK(cache_ != nullptr, "an empty page reference");
  ++cache_->page_references_[static_cast<size_t>(id_)];
  return {cache_, id_};
}

Result<std::unique_ptr<KvCache>> KvCache::create(Backend& backend, const Hyperparams& hyperparams,
                                                 const KvLimits& limits) {
  CHECK(limits.n_slots >= 1 && limits.ctx_tokens >= 1 && limits.n_pages >= 0, "{} slots, {} tokens, {} pages",
        limits.n_slots, limits.ctx_tokens, limits.n_pages);
  KvLimits actual = limits;
  const int32_t max_pages = pages_for(limits.ctx_tokens);
  if (actual.n_pages == 0) actual.n_pages = max_pages * actual.n_slots;
  std::unique_ptr<KvCache> cache(new KvCache(backend, KvLayout::compute(hyperparams, backend.profile()), actual));

  const auto allocate = [&](DType type, int64_t rows, uint64_t row_bytes) -> Result<TensorView> {
    const auto width = static_cast<int64_t>(row_bytes / dtype_info(type).block_bytes);
    cache->buffers_.push_back(TRY(backend.allocate(static_cast<uint64_t>(rows) * row_bytes)));
    return TensorView{cache->buffers_.back().get(), 0, type, {rows, width}};
  };
  cache->memory_.frontiers = TRY(allocate(DType::kU8, actual.n_slots, cache->layout_.frontier_bytes));
  // A model without compressed layers has empty pages; one byte keeps the views valid.
  cache->memory_.pages = TRY(allocate(DType::kU8, actual.n_pages, std::max<uint64_t>(cache->layout_.page_bytes, 1)));
  cache->memory_.page_table = TRY(allocate(DType::kI32, actual.n_slots, static_cast<uint64_t>(max_pages) * 4));

  cache->page_references_.resize(static_cast<size_t>(actual.n_pages), 0);
  cache->page_writers_.resize(static_cast<size_t>(actual.n_pages), kNoWriter);
  for (int32_t id = actual.n_pages; id-- > 0;) cache->free_pages_.push_back(id);
  for (int32_t slot = actual.n_slots; slot-- > 0;) cache->free_slots_.push_back(slot);
  return cache;
}

Result<KvState> KvCache::new_sequence() {
  if (free_slots_.empty()) return make_error(ErrorCode::kBusy, "all {} sequence slots are in use", limits_.n_slots);
  const int32_t slot = free_slots_.back();
  free_slots_.pop_back();
  KvState state(this, slot);
  state.pages_.reserve(static_cast<size_t>(pages_for(limits_.ctx_tokens)));
  return state;
}

PageRef KvCache::take_page(int32_t writer) {
  CHECK(!free_pages_.empty(), "no free page");
  const int32_t id = free_pages_.back();
  free_pages_.pop_back();
  page_references_[static_cast<size_t>(id)] = 1;
  page_writers_[static_cast<size_t>(id)] = writer;
  return PageRef(this, id);
}

PageRef KvCache::new_page() { return take_page(kNoWriter); }

std::vector<std::byte> KvCache::read_page(const PageRef& page, int32_t n_tokens) const {
  return gather(page_memory(page.id()), layout_.live_page(n_tokens));
}

void KvCache::write_page(const PageRef& page, int32_t n_tokens, std::span<const std::byte> bytes) {
  scatter(bytes, page_memory(page.id()), layout_.live_page(n_tokens));
}

std::span<std::byte> KvCache::host_page(const PageRef& page) const {
  std::byte* memory = memory_.pages.buffer->host_data();
  if (memory == nullptr) return {};
  return {memory + page_memory(page.id()).offset_bytes, layout_.page_bytes};
}

// Parts of one row of frontiers or pages, one after the other.
std::vector<std::byte> KvCache::gather(const TensorView& row, std::span<const ByteRange> ranges) const {
  std::vector<std::byte> bytes(total_bytes(ranges));
  std::span<std::byte> rest = bytes;
  for (const ByteRange& range : ranges) {
    backend_.download(part(row, range), rest.first(range.size_bytes));
    rest = rest.subspan(range.size_bytes);
  }
  return bytes;
}

void KvCache::scatter(std::span<const std::byte> bytes, const TensorView& row, std::span<const ByteRange> ranges) {
  CHECK(bytes.size() == total_bytes(ranges), "{} bytes for ranges of {}", bytes.size(), total_bytes(ranges));
  for (const ByteRange& range : ranges) {
    backend_.upload(bytes.first(range.size_bytes), part(row, range));
    bytes = bytes.subspan(range.size_bytes);
  }
}

void KvCache::write_page_table(int32_t slot, int32_t index, int32_t page_id) {
  TensorView entry = memory_.page_table.rows(slot, 1);
  entry.offset_bytes += static_cast<uint64_t>(index) * sizeof(int32_t);
  entry.shape = {1};
  backend_.upload(std::as_bytes(std::span(&page_id, 1)), entry);
}

KvState::KvState(KvState&& other) noexcept
    : cache_(std::exchange(other.cache_, nullptr)),
      slot_(other.slot_),
      n_tokens_(other.n_tokens_),
      pages_(std::move(other.pages_)) {}

KvState& KvState::operator=(KvState&& other) noexcept {
  std::swap(cache_, other.cache_);
  std::swap(slot_, other.slot_);
  std::swap(n_tokens_, other.n_tokens_);
  std::swap(pages_, other.pages_);
  return *this;
}

KvState::~KvState() {
  if (cache_ == nullptr) return;
  clear();
  cache_->free_slots_.push_back(slot_);
}

bool KvState::may_write(size_t page_index) const {
  if (page_index >= pages_.size()) return false;
  const auto id = static_cast<size_t>(pages_[page_index].id());
  return cache_->page_references_[id] == 1 || cache_->page_writers_[id] == slot_;
}

int32_t KvState::n_missing_pages(int32_t n_new) const {
  // Rows are written into the pages from the current one on.
  const auto n_pages = static_cast<size_t>(pages_for(n_tokens_ + n_new));
  int32_t n_missing = 0;
  for (auto i = static_cast<size_t>(n_tokens_ / kPageTokens); i < n_pages; ++i) n_missing += may_write(i) ? 0 : 1;
  return n_missing;
}

Result<void> KvState::reserve(int32_t n_new) {
  CHECK(n_new >= 0, "reserve of {} tokens", n_new);
  const int32_t end = n_tokens_ + n_new;
  if (end > cache_->limits_.ctx_tokens) {
    return make_error(ErrorCode::kContextLength, "{} tokens exceed the context of {}", end, cache_->limits_.ctx_tokens);
  }
  const int32_t n_missing = n_missing_pages(n_new);
  if (n_missing > cache_->n_free_pages()) {
    return make_error(ErrorCode::kOutOfMemory, "{} more KV pages of {} tokens are needed, {} of {} are free", n_missing,
                      kPageTokens, cache_->n_free_pages(), cache_->limits_.n_pages);
  }
  const auto n_pages = static_cast<size_t>(pages_for(end));
  for (auto i = static_cast<size_t>(n_tokens_ / kPageTokens); i < n_pages; ++i) {
    if (may_write(i)) continue;
    PageRef fresh = cache_->take_page(slot_);
    if (i < pages_.size()) {
      cache_->backend_.copy(cache_->page_memory(pages_[i].id()), cache_->page_memory(fresh.id()));
      pages_[i] = std::move(fresh);
    } else {
      pages_.push_back(std::move(fresh));
    }
    cache_->write_page_table(slot_, static_cast<int32_t>(i), pages_[i].id());
  }
  return {};
}

void KvState::advance(int32_t n_new) {
  CHECK(pages_for(n_tokens_ + n_new) <= static_cast<int32_t>(pages_.size()), "advance by {} without reserve", n_new);
  n_tokens_ += n_new;
}

KvCheckpoint KvState::checkpoint() const {
  KvCheckpoint checkpoint;
  checkpoint.n_tokens = n_tokens_;
  for (int32_t i = 0; i < pages_for(n_tokens_); ++i) checkpoint.pages.push_back(pages_[static_cast<size_t>(i)].share());
  checkpoint.frontier = cache_->gather(cache_->frontier(slot_), cache_->layout_.live_frontier(n_tokens_));
  return checkpoint;
}

void KvState::restore(int32_t n_tokens, std::span<const PageRef> pages, std::span<const std::byte> frontier) {
  clear();
  for (const PageRef& page : pages) {
    pages_.push_back(page.share());
    cache_->write_page_table(slot_, static_cast<int32_t>(pages_.size()) - 1, page.id());
  }
  cache_->scatter(frontier, cache_->frontier(slot_), cache_->layout_.live_frontier(n_tokens));
  n_tokens_ = n_tokens;
}

void KvState::clear() {
  for (const PageRef& page : pages_) {
    int32_t& writer = cache_->page_writers_[static_cast<size_t>(page.id())];
    if (writer == slot_) writer = kNoWriter;
  }
  pages_.clear();
  n_tokens_ = 0;
}

}  // namespace ds4
