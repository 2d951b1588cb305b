#pragma once

// A conversation as the model knows it, independent of any HTTP dialect: what a client sent, flattened to text.
// The API layer fills these values, the renderer turns them into a prompt. Every string is request data and stays
// literal text in the prompt, whatever it spells. Content is never trimmed. Plain values, any thread.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ds4 {

enum class Role { kSystem, kUser, kAssistant, kTool, kDeveloper, kLatestReminder };

// "system", "user", "assistant", "tool", "developer", "latest_reminder".
std::string_view role_name(Role role);
std::optional<Role> role_from_name(std::string_view name);

// A call the assistant made earlier. `arguments` is JSON text as the client sent it.
struct ToolCall {
  std::string id;  // may be empty; only orders the results that follow
  std::string name;
  std::string arguments;
};

// One part of a tool result. A part whose type is not "text" is rendered as [Unsupported TYPE].
struct ContentPart {
  std::string type;
  std::string text;
};

struct Message {
  Role role = Role::kUser;
  std::string content;                         // null and absent are the empty string
  std::vector<ContentPart> parts;              // tool: used instead of `content` when not empty
  std::string reasoning_content;               // assistant
  std::vector<ToolCall> tool_calls;            // assistant
  std::string tool_call_id;                    // tool: the call this answers
  std::vector<std::string> tools;              // system, developer: JSON text of each `function` object, key order kept
  std::optional<std::string> response_format;  // system, developer: JSON text
  std::string task;                            // user, assistant, developer: a task name, or empty
  bool without_eos = false;                    // assistant: leave the turn open, to continue it
};

struct Conversation {
  std::vector<Message> messages;
  // The first n messages are in the sequence already: they influence decisions but are not rendered.
  size_t n_context_messages = 0;
};

enum class ThinkingMode { kChat, kThinking };

// Which of the two published encoders: they differ in the reasoning-effort texts only.
enum class ChatFormat { kPreview, k0731 };

// kDefault: the request names no level.
enum class ReasoningEffort { kDefault, kLow, kHigh, kMax };

std::optional<ThinkingMode> thinking_mode_from_name(std::string_view name);        // "chat", "thinking"
std::optional<ChatFormat> chat_format_from_name(std::string_view name);            // "preview", "0731"
std::optional<ReasoningEffort> reasoning_effort_from_name(std::string_view name);  // "low", "high", "max"

class ReplayMap;

struct RenderOptions {
  ThinkingMode thinking_mode = ThinkingMode::kChat;
  ChatFormat format = ChatFormat::kPreview;
  ReasoningEffort effort = ReasoningEffort::kDefault;
  bool drop_thinking = true;  // forget the reasoning of earlier turns; has no effect when tools are defined
  bool add_bos = true;        // ignored when there are context messages
  // Asked for every assistant message with calls; what it does not know is written in the canonical form. May be null.
  ReplayMap* replay = nullptr;
};

}  // namespace ds4
