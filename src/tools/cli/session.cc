#include "tools/cli/session.h"

#include <cstdio>
#include <utility>

namespace ds4 {

Message make_message(Role role, std::string content) {
  Message message;
  message.role = role;
  message.content = std::move(content);
  return message;
}

Result<Session> Session::open(const ChatOptions& options) {
  return Session(options, TRY(Engine::load(options.engine)));
}

Session::Session(ChatOptions options, std::unique_ptr<Engine> engine)
    : options_(std::move(options)),
      engine_(std::move(engine)),
      thread_(std::make_unique<EngineThread>(engine_->scheduler(), 1)) {}

Conversation Session::new_conversation() const {
  Conversation conversation;
  if (!options_.system.empty()) conversation.messages.push_back(make_message(Role::kSystem, options_.system));
  return conversation;
}

Result<GenerateRequest> Session::prepare(const Conversation& conversation) const {
  ThinkingOptions thinking = options_.thinking;
  if (thinking.effort == ReasoningEffort::kMax && engine_->ctx_tokens() < kThinkMaxCtxTokens) {
    fmt::print(stderr, "ds4: maximum effort needs a context of {} tokens, this one has {}: thinking as usual\n",
               kThinkMaxCtxTokens, engine_->ctx_tokens());
    thinking.effort = ReasoningEffort::kDefault;
  }
  GenerateRequest request =
      TRY(engine_->prepare(conversation, {.thinking_mode = thinking.mode, .effort = thinking.effort}));
  request.sampling = options_.sampling;
  request.max_tokens = options_.max_tokens;
  return request;
}

Result<Answer> Session::ask(const Conversation& conversation) {
  return run_request(*thread_, TRY(prepare(conversation)));
}

Result<void> Session::resize_context(int32_t ctx_tokens) {
  ChatOptions options = options_;
  options.engine.ctx_tokens = ctx_tokens;
  std::unique_ptr<Engine> engine = TRY(Engine::load(options.engine));
  thread_.reset();
  *this = Session(std::move(options), std::move(engine));
  return {};
}

}  // namespace ds4
