#pragma once

// Byte-pair encoding of one piece: start from single bytes and, as long as some adjacent pair is listed, merge the
// pair of lowest rank, the leftmost first among equals. Only listed pairs merge, even where another pair would spell
// the same token. A heap over a linked list makes it O(n log n), because a piece can be a whole text (100,000 spaces).
// Immutable after construction; any number of threads may encode, each with its own BpeScratch.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ds4 {

struct BpeMerge {
  int32_t left;
  int32_t right;
  int32_t merged;
};

// Memory that append_ids reuses from piece to piece.
struct BpeScratch {
  struct Symbol {
    int32_t id;
    uint32_t previous;
    uint32_t next;
    uint32_t rank;  // of the merge with the next symbol
  };
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;
};

class Bpe {
 public:
  // byte_ids: the token of every single byte. merges: in rank order; of equal pairs the first counts.
  Bpe(const std::array<int32_t, 256>& byte_ids, std::vector<BpeMerge> merges);

  // Appends the tokens of `piece` to ids.
  void append_ids(std::string_view piece, BpeScratch& scratch, std::vector<int32_t>& ids) const;

 private:
  struct Slot {
    uint64_t pair;
    uint32_t rank;
  };

  uint32_t rank_of(int32_t left, int32_t right) const;
  size_t find_slot(uint64_t pair) const;
  void push_pair(uint32_t left, BpeScratch& scratch) const;
  void merge_pairs(BpeScratch& scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<BpeMerge> merges_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
};

}  // namespace ds4
