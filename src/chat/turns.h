#pragma once

// The first half of rendering: messages become turns. A run of user and tool messages is one user turn; tool results
// stand in the order of the calls they answer; when old reasoning is dropped, old developer turns go with it.
// Turns point into the conversation, which must outlive them. Pure, any thread.

#include <cstddef>
#include <vector>

#include "chat/message.h"

namespace ds4 {

struct Turn {
  const Message* first = nullptr;      // decides role, task and every field but the content of a user turn
  size_t message_index = 0;            // index of `first` in the conversation
  bool in_context = false;             // influences decisions but is not rendered
  std::vector<const Message*> blocks;  // user turn: texts and tool results in rendering order

  Role role() const { return first->role == Role::kTool ? Role::kUser : first->role; }
  // Takes the <｜User｜> marker.
  bool is_user_like() const { return role() == Role::kUser || role() == Role::kDeveloper; }
};

struct Turns {
  std::vector<Turn> turns;
  bool drops_reasoning = false;  // reasoning before the last user turn is forgotten
  ptrdiff_t last_user = -1;      // index of the last user-like turn
};

Turns make_turns(const Conversation& conversation, const RenderOptions& options);

}  // namespace ds4
