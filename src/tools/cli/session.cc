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
  if (options_.engine.device_kind != DeviceKind::kCpu) return reload_on_device(std::move(options));
  std::unique_ptr<Engine> engine = TRY(Engine::load(options.engine));
  thread_.reset();
  *this = Session(std::move(options), std::move(engine));
  return {};
}

// A device does not hold a model twice: the old one goes first, and comes back when the new one does not fit.
Result<void> Session::reload_on_device(ChatOptions options) {
  thread_.reset();
  engine_.reset();
  Result<std::unique_ptr<Engine>> engine = Engine::load(options.engine);
  const bool is_new = engine.ok();
  Result<void> result;
  if (!is_new) {
    result = engine.take_error();
    engine = Engine::load(options_.engine);
    CHECK(engine.ok(), "the model does not load again: {}", engine.error().message);
  }
  ChatOptions loaded = is_new ? std::move(options) : options_;
  *this = Session(std::move(loaded), engine.take_value());
  return result;
}

}  // namespace ds4
