#pragma once

// KV memory of all sequences: a pool of reference-counted pages (compressed rows, immutable once written), a
// frontier block per live sequence, and KvState, the handle of one sequence. A checkpoint is page references plus
// a copy of the frontier; restoring one is how a sequence rolls back or forks, and recomputes nothing.
// Used by the engine thread only. docs/kv_cache.md explains the layout.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backends/backend.h"
#include "model/kv_layout.h"

namespace ds4 {

class KvCache;

// One counted reference to a page. Move-only; share() makes another.
class PageRef {
 public:
  PageRef() = default;
  PageRef(PageRef&& other) noexcept;
  PageRef& operator=(PageRef&& other) noexcept;
  ~PageRef();
  PageRef share() const;
  int32_t id() const { return id_; }

 private:
  friend class KvCache;
  PageRef(KvCache* cache, int32_t id) : cache_(cache), id_(id) {}
  KvCache* cache_ = nullptr;
  int32_t id_ = -1;
};

// Later tokens of the sequence it was taken of may go on filling its last page: they write other rows.
struct KvCheckpoint {
  int32_t n_tokens = 0;
  std::vector<PageRef> pages;       // those that n_tokens reach into
  std::vector<std::byte> frontier;  // the parts that live_frontier(n_tokens) names, in order
};

struct KvLimits {
  int32_t n_slots = 1;        // sequences alive at once
  int32_t ctx_tokens = 4096;  // longest sequence
  int32_t n_pages = 0;        // 0: enough for every slot at ctx_tokens
};

// One live sequence: a slot, its page table and how many tokens its KV memory holds.
class KvState {
 public:
  KvState(KvState&&) noexcept;
  KvState& operator=(KvState&&) noexcept;
  ~KvState();

  int32_t slot() const { return slot_; }
  int32_t n_tokens() const { return n_tokens_; }
  // Free pages that reserve(n_new) would take.
  int32_t n_missing_pages(int32_t n_new) const;

  // Makes the pages for n_new more tokens exist and be this sequence's to write (a partly filled page that another
  // sequence may write, or did, is copied first). Error: kContextLength beyond ctx_tokens, kOutOfMemory when the pool
  // is empty; nothing changed then.
  Result<void> reserve(int32_t n_new);
  // The step that computed n_new tokens is done. Precondition: reserved.
  void advance(int32_t n_new);

  KvCheckpoint checkpoint() const;
  // Becomes the state the checkpoint was taken of, whatever this sequence held before.
  void restore(const KvCheckpoint& checkpoint) { restore(checkpoint.n_tokens, checkpoint.pages, checkpoint.frontier); }
  void restore(int32_t n_tokens, std::span<const PageRef> pages, std::span<const std::byte> frontier);
  // Forgets everything: 0 tokens.
  void clear();

 private:
  friend class KvCache;
  KvState(KvCache* cache, int32_t slot) : cache_(cache), slot_(slot) {}
  bool may_write(size_t page_index) const;
  KvCache* cache_ = nullptr;
  int32_t slot_ = -1;
  int32_t n_tokens_ = 0;
  std::vector<PageRef> pages_;
};

class KvCache {
 public:
  static Result<std::unique_ptr<KvCache>> create(Backend& backend, const Hyperparams& hyperparams,
                                                 const KvLimits& limits);
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // An empty sequence. Error: kBusy when all slots are taken.
  Result<KvState> new_sequence();

  const KvLayout& layout() const { return layout_; }
  const KvLimits& limits() const { return limits_; }
  const KvMemory& memory() const { return memory_; }
  int32_t n_free_pages() const { return static_cast<int32_t>(free_pages_.size()); }
  int32_t n_free_slots() const { return static_cast<int32_t>(free_slots_.size()); }

  // For stores of checkpoints. A free page, to be filled by write_page. Precondition: n_free_pages() > 0.
  PageRef new_page();
  // The parts of a page that its first n_tokens positions fill (live_page), as one run of bytes, and back.
  std::vector<std::byte> read_page(const PageRef& page, int32_t n_tokens) const;
  void write_page(const PageRef& page, int32_t n_tokens, std::span<const std::byte> bytes);
  // A whole page where it lies; empty when that is not host memory.
  std::span<std::byte> host_page(const PageRef& page) const;

 private:
  friend class KvState;
  friend class PageRef;
  KvCache(Backend& backend, KvLayout layout, const KvLimits& limits)
      : backend_(backend), layout_(std::move(layout)), limits_(limits) {}

  PageRef take_page(int32_t writer);  // precondition: one is free
  void write_page_table(int32_t slot, int32_t index, int32_t page);
  std::vector<std::byte> gather(const TensorView& row, std::span<const ByteRange> ranges) const;
  void scatter(std::span<const std::byte> bytes, const TensorView& row, std::span<const ByteRange> ranges);
  TensorView page_memory(int32_t id) const { return memory_.pages.rows(id, 1); }
  TensorView frontier(int32_t slot) const { return memory_.frontiers.rows(slot, 1); }

  Backend& backend_;
  KvLayout layout_;
  KvLimits limits_;
  KvMemory memory_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<int32_t> page_references_;
  std::vector<int32_t> page_writers_;  // the slot whose sequence has filled all its rows so far, or kNoWriter
  std::vector<int32_t> free_pages_;
  std::vector<int32_t> free_slots_;
};

}  // namespace ds4
