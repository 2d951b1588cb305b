#include "chat/turns.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

namespace ds4 {
namespace {

bool joins_turn(const Message& message, const Turn& last) {
  if (last.role() != Role::kUser) return false;
  if (message.role == Role::kTool) return true;
  // A task ends its turn; a turn that a tool result opened has none.
  return message.role == Role::kUser && (last.first->role == Role::kTool || last.first->task.empty());
}

std::vector<Turn> merge_messages(const Conversation& conversation) {
  std::vector<Turn> turns;
  for (size_t i = 0; i < conversation.messages.size(); ++i) {
    const Message& message = conversation.messages[i];
    const bool in_context = i < conversation.n_context_messages;
    const bool joins = !turns.empty() && turns.back().in_context == in_context && joins_turn(message, turns.back());
    if (!joins) turns.push_back({.first = &message, .message_index = i, .in_context = in_context, .blocks = {}});
    if (turns.back().role() == Role::kUser) turns.back().blocks.push_back(&message);
  }
  return turns;
}

using CallPositions = std::unordered_map<std::string, size_t>;

// Only the results move, and only among the places that results have.
void sort_results(std::vector<const Message*>& blocks, const CallPositions& positions) {
  std::vector<const Message*> results;
  for (const Message* block : blocks) {
    if (block->role == Role::kTool) results.push_back(block);
  }
  const auto position = [&positions](const Message* result) {
    const auto found = positions.find(result->tool_call_id);
    return found == positions.end() ? 0 : found->second;
  };
  // Equal positions keep the order of the messages, which is the order of their addresses.
  std::sort(results.begin(), results.end(),
            [&](const Message* a, const Message* b) { return std::pair(position(a), a) < std::pair(position(b), b); });
  auto next = results.begin();
  for (const Message*& block : blocks) {
    if (block->role == Role::kTool) block = *next++;
  }
}

void sort_results_by_call(std::vector<Turn>& turns) {
  CallPositions positions;
  for (Turn& turn : turns) {
    if (turn.role() == Role::kUser && !positions.empty()) sort_results(turn.blocks, positions);
    if (turn.role() != Role::kAssistant || turn.first->tool_calls.empty()) continue;
    positions.clear();
    for (size_t i = 0; i < turn.first->tool_calls.size(); ++i) {
      const std::string& id = turn.first->tool_calls[i].id;
      if (!id.empty()) positions[id] = i;
    }
  }
}

ptrdiff_t find_last_user(const std::vector<Turn>& turns) {
  const auto last = std::find_if(turns.rbegin(), turns.rend(), [](const Turn& turn) { return turn.is_user_like(); });
  return turns.rend() - last - 1;
}

}  // namespace

Turns make_turns(const Conversation& conversation, const RenderOptions& options) {
  Turns result;
  result.turns = merge_messages(conversation);
  sort_results_by_call(result.turns);
  const bool has_tools = std::any_of(result.turns.begin(), result.turns.end(), [](const Turn& turn) {
    return turn.role() != Role::kUser && !turn.first->tools.empty();
  });
  result.drops_reasoning = options.drop_thinking && !has_tools;
  if (options.thinking_mode == ThinkingMode::kThinking && result.drops_reasoning) {
    const ptrdiff_t last_user = find_last_user(result.turns);
    std::vector<Turn> kept;
    for (Turn& turn : result.turns) {
      const bool is_old = &turn - result.turns.data() < last_user;
      if (!is_old || turn.role() != Role::kDeveloper) kept.push_back(std::move(turn));
    }
    result.turns = std::move(kept);
  }
  result.last_user = find_last_user(result.turns);
  return result;
}

}  // namespace ds4
