#pragma once

// What a server could know at most, whatever its engine does: all token sequences that were sent to it or answered by
// it. A prompt's new tokens are those after the longest prefix that it shares with any of them. One thread.

#include <cstdint>
#include <set>
#include <span>
#include <vector>

namespace ds4 {

class KnownPrefixes {
 public:
  // Tokens of the longest common prefix with anything that was added.
  int32_t shared_tokens(std::span<const int32_t> tokens) const;
  // Of which at least one must be computed, whatever is known.
  int32_t new_tokens(std::span<const int32_t> tokens) const;
  void add(std::vector<int32_t> tokens);

 private:
  // In lexicographic order the longest common prefix is with a neighbour. What is a prefix of another one is left out.
  std::set<std::vector<int32_t>> sequences_;
};

}  // namespace ds4
