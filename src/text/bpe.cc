#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/check.h"

namespace ds4 {
namespace {

constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, std::vector<BpeMerge> merges)
    : byte_ids_(byte_ids), merges_(std::move(merges)) {
  CHECK(merges_.size() < kNone, "{} merges", merges_.size());
  slots_.resize(std::bit_ceil(2 * merges_.size() + 2), Slot{0, kNone});
  for (uint32_t rank = 0; rank < merges_.size(); ++rank) {
    const uint64_t pair = pair_key(merges_[rank].left, merges_[rank].right);
    Slot& slot = slots_[find_slot(pair)];
    if (slot.rank == kNone) slot = {pair, rank};
  }
}

// The slot of the pair, or the free slot where it belongs.
size_t Bpe::find_slot(uint64_t pair) const {
  constexpr uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;
  const size_t mask = slots_.size() - 1;
  size_t index = static_cast<size_t>((pair * kGoldenRatio) >> 32) & mask;
  while (slots_[index].rank != kNone && slots_[index].pair != pair) index = (index + 1) & mask;
  return index;
}

uint32_t Bpe::rank_of(int32_t left, int32_t right) const { return slots_[find_slot(pair_key(left, right))].rank; }

void Bpe::append_ids(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  CHECK(piece.size() < kNone, "a piece of {} bytes", piece.size());
  if (piece.empty()) return;
  const auto n = static_cast<uint32_t>(piece.size());
  scratch.symbols.resize(n);
  for (uint32_t i = 0; i < n; ++i) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[i])];
    scratch.symbols[i] = {id, i == 0 ? kNone : i - 1, i + 1 == n ? kNone : i + 1, kNone};
  }
  merge_pairs(scratch);
  for (uint32_t i = 0; i != kNone; i = scratch.symbols[i].next) ids.push_back(scratch.symbols[i].id);
}

// Looks up the pair that starts at `left` and queues it. A heap entry is (rank, position), so the smallest is the
// lowest rank, leftmost first.
void Bpe::push_pair(uint32_t left, BpeScratch& scratch) const {
  BpeScratch::Symbol& symbol = scratch.symbols[left];
  symbol.rank = symbol.next == kNone ? kNone : rank_of(symbol.id, scratch.symbols[symbol.next].id);
  if (symbol.rank == kNone) return;
  scratch.heap.push_back((static_cast<uint64_t>(symbol.rank) << 32) | left);
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), std::greater<>());
}

void Bpe::merge_pairs(BpeScratch& scratch) const {
  auto& [symbols, heap] = scratch;
  heap.clear();
  for (uint32_t i = 0; i < symbols.size(); ++i) push_pair(i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto left = static_cast<uint32_t>(heap.back());
    heap.pop_back();
    // An entry is stale when a merge has since changed or removed the symbol's pair; a rank names one pair.
    if (symbols[left].rank != rank) continue;
    const uint32_t right = symbols[left].next;
    symbols[left].id = merges_[rank].merged;
    symbols[left].next = symbols[right].next;
    symbols[right].rank = kNone;
    if (symbols[left].next != kNone) symbols[symbols[left].next].previous = left;
    push_pair(left, scratch);
    if (symbols[left].previous != kNone) push_pair(symbols[left].previous, scratch);
  }
}

}  // namespace ds4
