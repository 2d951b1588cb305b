#pragma once

// Text that agents put in front of their system prompt for the vendor's servers, another one in every request. It tells
// the model nothing, but whatever stands behind it would have to be computed again each time. Only what a rule
// describes exactly is dropped: a whole block, or the first line of one. For system and developer texts only; user and
// tool data are never touched. docs/server_api.md lists the rules, and what also varies but stays. Pure, any thread.

#include <array>
#include <bitset>
#include <string>
#include <string_view>
#include <vector>

namespace ds4 {

struct VolatileRule {
  std::string_view name;
  bool (*matches)(std::string_view line);
};

// Claude Code: "x-anthropic-billing-header: cc_version=...; KEY=VALUE; ...".
bool is_billing_header(std::string_view line);

inline constexpr std::array<VolatileRule, 1> kVolatileRules{{
    {"x-anthropic-billing-header", is_billing_header},
}};

// By index in kVolatileRules.
using VolatileKinds = std::bitset<kVolatileRules.size()>;

// Removes volatile first lines, and blocks that are nothing else. Returns the rules that applied.
VolatileKinds drop_volatile_text(std::vector<std::string>& blocks);

}  // namespace ds4
