#include "chat/volatile_text.h"

#include <algorithm>
#include <cstddef>
#include <optional>

namespace ds4 {
namespace {

constexpr std::string_view kBillingName = "x-anthropic-billing-header:";
constexpr std::string_view kBillingFirstKey = "cc_version";

bool is_key_character(char c) { return (c >= 'a' && c <= 'z') || c == '_'; }
bool is_value_character(char c) {
  return is_key_character(c) || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
}

// Takes " KEY=VALUE;" from the front and returns the key.
std::optional<std::string_view> take_field(std::string_view& rest) {
  if (!rest.starts_with(' ')) return std::nullopt;
  rest.remove_prefix(1);
  const auto take = [&rest](bool (*accepts)(char), char end) {
    const auto n = static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), accepts) - rest.begin());
    const std::string_view taken = rest.substr(0, n);
    const bool complete = n > 0 && n < rest.size() && rest[n] == end;
    rest.remove_prefix(complete ? n + 1 : 0);
    return complete ? taken : std::string_view{};
  };
  const std::string_view key = take(is_key_character, '=');
  if (key.empty() || take(is_value_character, ';').empty()) return std::nullopt;
  return key;
}

}  // namespace

bool is_billing_header(std::string_view line) {
  if (!line.starts_with(kBillingName)) return false;
  line.remove_prefix(kBillingName.size());
  if (take_field(line) != kBillingFirstKey) return false;
  while (!line.empty()) {
    if (!take_field(line)) return false;
  }
  return true;
}

VolatileKinds drop_volatile_text(std::vector<std::string>& blocks) {
  VolatileKinds dropped;
  std::erase_if(blocks, [&dropped](std::string& block) {
    const size_t n_line = std::min(block.find('\n'), block.size());
    const std::string_view line = std::string_view(block).substr(0, n_line);
    const auto* rule = std::ranges::find_if(kVolatileRules, [line](const VolatileRule& r) { return r.matches(line); });
    if (rule == kVolatileRules.end()) return false;
    dropped.set(static_cast<size_t>(rule - kVolatileRules.begin()));
    block.erase(0, n_line + 1);
    return block.empty();
  });
  return dropped;
}

}  // namespace ds4
