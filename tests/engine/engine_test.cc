#include "engine/engine.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/engine_thread.h"
#include "engine/event_queue.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

EngineOptions tiny_options(const std::string& path) {
  EngineOptions options;
  options.model_path = path;
  options.ctx_tokens = 2000;
  options.n_threads = 1;
  return options;
}

std::unique_ptr<Engine> load_tiny() { return Engine::load(tiny_options(test::tiny_model_path())).take_value(); }

Conversation ask(std::string text) {
  Conversation conversation;
  conversation.messages.resize(1);
  conversation.messages[0].content = std::move(text);
  return conversation;
}

std::string model_with_key(const std::string& name, std::string_view key, std::string_view value) {
  Metadata metadata = test::tiny_vocabulary();
  metadata.set_string(key, value);
  return test::write_tiny_model(name, metadata);
}

// Everything up to the end of a request.
OutputEvents wait_for_end(EventQueue& queue) {
  OutputEvents events;
  while (events.empty() ||
         (!std::holds_alternative<Finished>(events.back()) && !std::holds_alternative<Failed>(events.back()))) {
    for (OutputEvent& event : queue.pop()) events.push_back(std::move(event));
  }
  return events;
}

struct Client {
  std::shared_ptr<EventQueue> events = std::make_shared<EventQueue>();
  std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);

  GenerateRequest request(const Engine& engine, int32_t max_tokens) const {
    GenerateRequest request = engine.prepare(ask("Hello"), {}).take_value();
    request.output.raw_text = true;
    request.max_tokens = max_tokens;
    request.sink = events;
    request.cancel = cancel;
    return request;
  }
};

TEST(EngineTest, PreparesAConversation) {
  const auto engine = load_tiny();
  const GenerateRequest chat = engine->prepare(ask("Hi"), {.thinking_mode = ThinkingMode::kChat}).take_value();
  const std::string text = "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>";
  EXPECT_EQ(chat.prompt_tokens, engine->tokenizer()->encode_with_special(text));
  EXPECT_FALSE(chat.output.starts_in_thinking);
  EXPECT_FALSE(chat.output.tools_enabled);
  EXPECT_TRUE(engine->prepare(ask("Hi"), {.thinking_mode = ThinkingMode::kThinking}).value().output.starts_in_thinking);
  Conversation with_tools = ask("Hi");
  with_tools.messages.insert(with_tools.messages.begin(), Message());
  with_tools.messages[0].role = Role::kSystem;
  with_tools.messages[0].tools = {R"({"name":"now"})"};
  EXPECT_TRUE(engine->prepare(with_tools, {}).value().output.tools_enabled);
}

TEST(EngineTest, RefusesAPromptThatDoesNotFit) {
  const auto engine = load_tiny();
  const Result<GenerateRequest> request = engine->prepare(ask(std::string(3000, 'x')), {});
  ASSERT_FALSE(request.ok());
  EXPECT_EQ(request.error().code, ErrorCode::kContextLength);
}

TEST(EngineTest, LoadsAFileWithoutVocabulary) {
  const auto engine = Engine::load(tiny_options(test::tiny_model_path_without_vocabulary())).take_value();
  EXPECT_EQ(engine->tokenizer(), nullptr);
  EXPECT_EQ(engine->prepare(ask("Hi"), {}).error().code, ErrorCode::kUnsupported);
  GenerateRequest request;
  request.prompt_tokens = {1, 2, 3};
  request.max_tokens = 4;
  request.n_top_logprobs = 0;
  const auto events = std::make_shared<EventQueue>();
  request.sink = events;
  engine->scheduler().submit(request);
  while (engine->scheduler().step()) {
  }
  const OutputEvents all = wait_for_end(*events);
  EXPECT_EQ(std::get<Finished>(all.back()).usage.completion_tokens, 4U);
}

TEST(EngineTest, NameComesFromTheFileOrItsPath) {
  EXPECT_TRUE(load_tiny()->model_name().ends_with("tiny"));
  const std::string path = model_with_key("named", "general.name", "Small one");
  EXPECT_EQ(Engine::load(tiny_options(path)).value()->model_name(), "Small one");
}

TEST(EngineTest, ChatFormatComesFromOptionThenFile) {
  EXPECT_EQ(load_tiny()->chat_format(), ChatFormat::kPreview);
  const std::string path = model_with_key("format", "ds4.chat_format", "0731");
  EXPECT_EQ(Engine::load(tiny_options(path)).value()->chat_format(), ChatFormat::k0731);
  EngineOptions options = tiny_options(path);
  options.chat_format = ChatFormat::kPreview;
  EXPECT_EQ(Engine::load(options).value()->chat_format(), ChatFormat::kPreview);
}

TEST(EngineTest, RefusesAnUnknownChatFormat) {
  const auto engine = Engine::load(tiny_options(model_with_key("bad-format", "ds4.chat_format", "0815")));
  ASSERT_FALSE(engine.ok());
  EXPECT_NE(engine.error().message.find("0815"), std::string::npos);
}

TEST(EngineTest, ContextDefaultsToWhatTheModelAllows) {
  EngineOptions options = tiny_options(test::tiny_model_path());
  options.ctx_tokens = 0;
  const auto engine = Engine::load(options).take_value();
  EXPECT_EQ(engine->ctx_tokens(), std::min(kDefaultCtxTokens, engine->hyperparams().n_ctx_train));
  options.ctx_tokens = engine->hyperparams().n_ctx_train + 1;
  const auto refused = Engine::load(options);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find(std::to_string(options.ctx_tokens)), std::string::npos);
}

TEST(EngineTest, MissingFileIsNamed) {
  const auto engine = Engine::load(tiny_options("/nonexistent/model.gguf"));
  ASSERT_FALSE(engine.ok());
  EXPECT_NE(engine.error().message.find("/nonexistent/model.gguf"), std::string::npos);
}

TEST(EngineThreadTest, ServesRequestsFromSeveralThreads) {
  const auto engine = load_tiny();
  EngineThread thread(engine->scheduler(), 16);
  std::vector<std::thread> clients;
  std::atomic<int> n_finished = 0;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      const Client client;
      ASSERT_TRUE(thread.submit(client.request(*engine, 8)).ok());
      if (std::holds_alternative<Finished>(wait_for_end(*client.events).back())) ++n_finished;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(n_finished, 3);
}

TEST(EngineThreadTest, WakesForEveryRequest) {
  const auto engine = load_tiny();
  EngineThread thread(engine->scheduler(), 1);
  for (int i = 0; i < 5; ++i) {
    const Client client;
    ASSERT_TRUE(thread.submit(client.request(*engine, 2)).ok());
    wait_for_end(*client.events);
  }
}

// Holds the engine thread in its first event until it is opened.
class GateSink final : public EventSink {
 public:
  void on_events(OutputEvents) override {
    reached_.open();
    opened_.wait();
  }
  void wait_until_reached() { reached_.wait(); }
  void open() { opened_.open(); }

 private:
  class Latch {
   public:
    void open() {
      {
        const std::lock_guard lock(mutex_);
        is_set_ = true;
      }
      changed_.notify_all();
    }
    void wait() {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return is_set_; });
    }

   private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_set_ = false;
  };
  Latch reached_;
  Latch opened_;
};

// So that a failed assertion does not leave the thread waiting.
struct GateOpener {
  GateSink& gate;
  ~GateOpener() { gate.open(); }
};

TEST(EngineThreadTest, RefusesWhenTooManyWait) {
  EngineOptions options = tiny_options(test::tiny_model_path());
  options.n_slots = 1;
  const auto engine = Engine::load(options).take_value();
  EngineThread thread(engine->scheduler(), 2);
  const auto gate = std::make_shared<GateSink>();
  const GateOpener opener{*gate};
  std::vector<Client> clients(4);
  GenerateRequest running = clients[0].request(*engine, 5);
  running.sink = gate;
  ASSERT_TRUE(thread.submit(std::move(running)).ok());
  gate->wait_until_reached();
  ASSERT_TRUE(thread.submit(clients[1].request(*engine, 5)).ok());
  ASSERT_TRUE(thread.submit(clients[2].request(*engine, 5)).ok());
  EXPECT_EQ(thread.submit(clients[3].request(*engine, 5)).error().code, ErrorCode::kBusy);
  gate->open();
  wait_for_end(*clients[2].events);
  ASSERT_TRUE(thread.submit(clients[3].request(*engine, 5)).ok());
  wait_for_end(*clients[3].events);
}

TEST(EngineThreadTest, FailedRequestsDoNotCountAsWaiting) {
  const auto engine = load_tiny();
  EngineThread thread(engine->scheduler(), 1);
  for (const bool is_possible : {false, false, true}) {
    const Client client;
    GenerateRequest request = client.request(*engine, 1);
    if (!is_possible) request.prompt_tokens.clear();
    // The failure is told a moment before the place in the queue is free.
    while (!thread.submit(request).ok()) std::this_thread::yield();
    EXPECT_EQ(std::holds_alternative<Finished>(wait_for_end(*client.events).back()), is_possible);
  }
}

TEST(EngineThreadTest, DrainingStopFinishesWhatWasSubmitted) {
  const auto engine = load_tiny();
  const Client client;
  EngineThread thread(engine->scheduler(), 4);
  ASSERT_TRUE(thread.submit(client.request(*engine, 5)).ok());
  thread.stop(StopMode::kDrain);
  EXPECT_NE(std::get<Finished>(wait_for_end(*client.events).back()).reason, FinishReason::kCancelled);
  EXPECT_EQ(thread.submit(client.request(*engine, 5)).error().code, ErrorCode::kBusy);
}

TEST(EngineThreadTest, CancellingStopEndsEverything) {
  EngineOptions options = tiny_options(test::tiny_model_path());
  options.ctx_tokens = 100000;
  options.n_slots = 1;
  const auto engine = Engine::load(options).take_value();
  std::vector<Client> clients(3);
  {
    EngineThread thread(engine->scheduler(), 4);
    for (const Client& client : clients) {
      GenerateRequest request = client.request(*engine, kUnlimitedTokens);
      request.sampling.temperature = 0;
      ASSERT_TRUE(thread.submit(std::move(request)).ok());
    }
  }
  for (const Client& client : clients) {
    EXPECT_TRUE(std::holds_alternative<Finished>(wait_for_end(*client.events).back()));
  }
}

TEST(EngineThreadTest, CancelFlagIsSeenWhileRunning) {
  EngineOptions options = tiny_options(test::tiny_model_path());
  options.ctx_tokens = 100000;
  const auto engine = Engine::load(options).take_value();
  EngineThread thread(engine->scheduler(), 4);
  const Client client;
  GenerateRequest request = client.request(*engine, kUnlimitedTokens);
  request.output.raw_text = false;
  ASSERT_TRUE(thread.submit(std::move(request)).ok());
  client.cancel->store(true);
  EXPECT_TRUE(std::holds_alternative<Finished>(wait_for_end(*client.events).back()));
}

}  // namespace
}  // namespace ds4
