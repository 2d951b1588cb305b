#pragma once

// Conversations of coding agents as they reach a server, made up after requests of real ones: how large system prompt
// and tools are, who adds what in which turn, what runs beside it, and when history is shortened or changed. The
// assistant's turns are given. The same options give the same requests. One thread per object.

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/message.h"
#include "tools/bench/agent_text.h"

namespace ds4 {

enum class AgentKind : uint8_t {
  kClaudeCode,  // 24 tools, 62 kB; a billing line in front, notes of the system in place
  kCodex,       // 8 tools, 16 kB; developer messages, growing input
  kChat,        // no tools; old reasoning is dropped
};
std::optional<AgentKind> agent_kind_from_name(std::string_view name);  // "claude-code", "codex", "chat"

enum class RequestKind : uint8_t { kMain, kTitle, kSubAgent, kCompaction, kAfterEdit };
std::string_view request_kind_name(RequestKind kind);

struct AgentRequest {
  RequestKind kind = RequestKind::kMain;
  int32_t turn = 0;  // of the main conversation, from 1
  Conversation conversation;
  ThinkingMode thinking_mode = ThinkingMode::kThinking;
  Message answer;  // what the model is to say
};

struct WorkloadOptions {
  AgentKind kind = AgentKind::kClaudeCode;
  uint64_t seed = 1;
  int32_t turns = 40;             // answers in the main conversation
  int32_t target_tokens = 60000;  // of its last prompt
  int32_t max_prompt_tokens = 0;  // the history is summed up before it is longer; 0: never
  double bytes_per_token = 3;     // of such text in the vocabulary that counts
  // Tokens of a prompt; null: estimated from bytes_per_token.
  std::function<int32_t(const Conversation&)> count_tokens;
  double scale = 1;              // of everything that has a fixed size: system prompts, tools, answers
  int32_t user_every = 8;        // turns from one message of the user to the next
  bool titles = true;            // a request for a title beside each of them
  bool volatile_header = false;  // keep the line that a server should drop
  int32_t n_sub_agents = 0;      // started together in one turn
  int32_t sub_agent_turn = 3;
  int32_t sub_agent_turns = 4;
  int32_t edit_turn = 0;  // a note appears in the middle of the history; 0: never
};

class AgentClient {
 public:
  // Clients of one workload share what all users of an agent share; `client` makes the rest differ.
  AgentClient(const WorkloadOptions& options, int32_t client);

  // What is sent next, at once, when everything before was answered. Empty: the main conversation has had last_turn
  // turns, or all.
  std::vector<AgentRequest> next(int32_t last_turn);
  // The turn of the main conversation that the last requests belong to.
  int32_t turn() const { return turn_; }

 private:
  size_t bytes(double n) const;
  void begin();
  std::vector<std::string> make_tools() const;
  Message head(std::string_view purpose, size_t n_bytes) const;
  void plan_turn();
  void add_user_message();
  void insert_note();
  int32_t prompt_tokens() const;
  void compact();
  size_t result_bytes();
  Message make_answer(std::string_view tool);
  Message make_result(const Message& call, size_t n_bytes);
  AgentRequest request(RequestKind kind, std::vector<Message> messages, Message answer) const;
  AgentRequest title_request();
  void plan_sub_agents();

  WorkloadOptions options_;
  int32_t client_;
  AgentText text_;  // of this client alone
  Message head_;    // system prompt and tools
  std::vector<Message> messages_;
  std::string prompt_;  // what the user said last
  int32_t turn_ = 0;
  int32_t n_calls_ = 0;
  int32_t n_prompt_tokens_ = 0;    // of the last main prompt
  double mean_result_tokens_ = 0;  // as planned last; stays after the history was summed up
  bool was_compacted_ = false;
  std::deque<std::vector<AgentRequest>> groups_;
};

// Bytes of all texts of a conversation.
size_t content_bytes(const std::vector<Message>& messages);

}  // namespace ds4
