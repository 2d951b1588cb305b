#include "text/unicode_classes.h"

#include <algorithm>

#include "text/unicode_ranges.h"

namespace ds4 {
namespace {

constexpr CharacterClass find_class(char32_t code_point) {
  const auto* range = std::upper_bound(kUnicodeRanges.begin(), kUnicodeRanges.end(), code_point,
                                       [](char32_t value, const UnicodeRange& entry) { return value < entry.first; });
  if (range == kUnicodeRanges.begin() || code_point > (range - 1)->last) return CharacterClass::kOther;
  return (range - 1)->character_class;
}

constexpr auto kAsciiClasses = [] {
  std::array<CharacterClass, 128> classes{};
  for (char32_t c = 0; c < classes.size(); ++c) classes[c] = find_class(c);
  return classes;
}();

}  // namespace

CharacterClass character_class(char32_t code_point) {
  return code_point < kAsciiClasses.size() ? kAsciiClasses[code_point] : find_class(code_point);
}

}  // namespace ds4
