#pragma once

// What one-shot answers and the prompt loop have in common: the loaded model with its thread, and how to ask it.
// Main thread.

#include <cstdint>
#include <memory>
#include <string>

#include "chat/message.h"
#include "engine/engine.h"
#include "engine/engine_thread.h"
#include "tools/cli/answer.h"
#include "tools/common/options.h"

namespace ds4 {

struct ChatOptions {
  EngineOptions engine;
  SamplingParams sampling;
  ThinkingOptions thinking;
  std::string system = "You are a helpful assistant.";  // empty: no system message
  int32_t max_tokens = 50000;
};

// A message of text only.
Message make_message(Role role, std::string content);

class Session {
 public:
  static Result<Session> open(const ChatOptions& options);

  // The system message, if any.
  Conversation new_conversation() const;
  // The prompt as tokens, with this session's sampling.
  Result<GenerateRequest> prepare(const Conversation& conversation) const;
  Result<Answer> ask(const Conversation& conversation);

  void set_thinking(const ThinkingOptions& thinking) { options_.thinking = thinking; }
  // Loads the model anew; after an error the session is as it was.
  Result<void> resize_context(int32_t ctx_tokens);

  Engine& engine() { return *engine_; }

 private:
  Session(ChatOptions options, std::unique_ptr<Engine> engine);
  Result<void> reload_on_device(ChatOptions options);

  ChatOptions options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<EngineThread> thread_;
};

}  // namespace ds4
