#pragma once

// Finds the literal spellings of added tokens in raw text: leftmost first, the longest of those that start there.
// Used only where recognition is wanted (already rendered prompts); data text never passes through it.
// Immutable after construction, any thread; the spellings must outlive the matcher.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ds4 {

class AddedTokenMatcher {
 public:
  struct Match {
    size_t offset;
    size_t n_bytes;
    int32_t id;
  };

  // Empty spellings are ignored; of equal ones the first counts.
  void add(std::string_view spelling, int32_t id);

  // The first match at or after `offset`.
  std::optional<Match> find(std::string_view text, size_t offset) const;

 private:
  std::unordered_map<std::string_view, int32_t> ids_;
  // Distinct lengths in descending order, by first byte: a few dozen look-ups settle a position.
  std::array<std::vector<size_t>, 256> lengths_;
};

}  // namespace ds4
