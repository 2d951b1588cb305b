#include "chat/message.h"

#include <array>
#include <utility>

namespace ds4 {
namespace {

template <class Value, size_t n>
using NameTable = std::array<std::pair<std::string_view, Value>, n>;

constexpr NameTable<Role, 6> kRoles{{{"system", Role::kSystem},
                                     {"user", Role::kUser},
                                     {"assistant", Role::kAssistant},
                                     {"tool", Role::kTool},
                                     {"developer", Role::kDeveloper},
                                     {"latest_reminder", Role::kLatestReminder}}};
constexpr NameTable<ThinkingMode, 2> kModes{{{"chat", ThinkingMode::kChat}, {"thinking", ThinkingMode::kThinking}}};
constexpr NameTable<ChatFormat, 2> kFormats{{{"preview", ChatFormat::kPreview}, {"0731", ChatFormat::k0731}}};
constexpr NameTable<ReasoningEffort, 3> kEfforts{
    {{"low", ReasoningEffort::kLow}, {"high", ReasoningEffort::kHigh}, {"max", ReasoningEffort::kMax}}};

template <class Value, size_t n>
std::optional<Value> find(const NameTable<Value, n>& table, std::string_view name) {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  return std::nullopt;
}

}  // namespace

std::string_view role_name(Role role) { return kRoles[static_cast<size_t>(role)].first; }
std::optional<Role> role_from_name(std::string_view name) { return find(kRoles, name); }
std::optional<ThinkingMode> thinking_mode_from_name(std::string_view name) { return find(kModes, name); }
std::optional<ChatFormat> chat_format_from_name(std::string_view name) { return find(kFormats, name); }
std::optional<ReasoningEffort> reasoning_effort_from_name(std::string_view name) { return find(kEfforts, name); }

}  // namespace ds4
