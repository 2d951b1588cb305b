#include "server/replay_sink.h"

#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "chat/markup.h"
#include "server/engine_server.h"
#include "support/recording_sink.h"
#include "support/temporary_path.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using testing::MatchesRegex;
using testing::SizeIs;

SampledCalls sampled_calls() {
  const Markup markup = token_markup();
  const auto invoke = [&markup](const std::string& name) {
    return markup.tag_opener + "invoke name=\"" + name + "\"> " + markup.tag_closer + "invoke>";
  };
  return {.text = "\n" + markup.block_opener + invoke("f") + invoke("g") + markup.tag_closer + "tool_calls>"};
}

class ReplaySinkTest : public testing::Test {
 protected:
  std::shared_ptr<ReplaySink> sink(ReplayMap* map, std::string prefix = "call_") {
    return std::make_shared<ReplaySink>(recorder_, map, std::move(prefix));
  }
  // One by one, as steps of an engine.
  static void play(EventSink& sink) {
    sink.on_events({TextDelta{"x"}});
    sink.on_events({ToolCallBegin{0, "f"}, ToolCallEnd{0, "{}"}, ToolCallBegin{1, "g"}});
    sink.on_events({ToolCallEnd{1, "{}"}});
    sink.on_events({Finished{FinishReason::kToolCalls, {}, sampled_calls()}});
  }
  std::vector<ToolCall> calls() const {
    std::vector<ToolCall> result;
    for (const ToolCallBegin& begin : recorder_->all<ToolCallBegin>()) {
      result.push_back({.id = begin.id, .name = begin.name, .arguments = "{}"});
    }
    return result;
  }

  std::shared_ptr<test::RecordingSink> recorder_ = std::make_shared<test::RecordingSink>();
};

TEST_F(ReplaySinkTest, GivesIdsAndRemembersWhatTheyStandFor) {
  ReplayMap map;
  play(*sink(&map));
  ASSERT_THAT(calls(), SizeIs(2));
  EXPECT_THAT(calls()[0].id, MatchesRegex("call_[0-9a-f]{32}"));
  EXPECT_NE(calls()[0].id, calls()[1].id);
  const auto found = map.find(calls());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(*found, sampled_calls());
  // All events come through, the block stays here.
  EXPECT_THAT(recorder_->events, SizeIs(6));
  EXPECT_FALSE(recorder_->last<Finished>()->sampled_calls.has_value());
}

TEST_F(ReplaySinkTest, GivesIdsWithoutAMap) {
  play(*sink(nullptr, "toolu_"));
  EXPECT_THAT(calls()[1].id, MatchesRegex("toolu_[0-9a-f]{32}"));
}

TEST_F(ReplaySinkTest, RemembersNothingOfATurnWithoutABlock) {
  ReplayMap map;
  const auto cut_off = sink(&map);
  cut_off->on_events({ToolCallBegin{0, "f"}, Finished{FinishReason::kLength, {}}});
  const auto failed = sink(&map);
  failed->on_events({ToolCallBegin{0, "f"}, Failed{make_error(ErrorCode::kInternal, "device lost")}});
  EXPECT_EQ(map.statistics().n_ids, 0U);
}

TEST_F(ReplaySinkTest, RemembersBeforeTheClientKnows) {
  class AskingSink final : public EventSink {
   public:
    explicit AskingSink(ReplayMap& map) : map_(map) {}
    void on_events(OutputEvents events) override {
      if (std::get_if<Finished>(&events.back()) != nullptr) n_ids_at_end = map_.statistics().n_ids;
    }
    size_t n_ids_at_end = 0;

   private:
    ReplayMap& map_;
  };
  ReplayMap map;
  const auto asking = std::make_shared<AskingSink>(map);
  ReplaySink replay(asking, &map, "call_");
  play(replay);
  EXPECT_EQ(asking->n_ids_at_end, 2U);
}

// A whole round over HTTP with the trained model, which calls the tool that it is asked to.
class ReplayServerTest : public test::EngineServerTest {
 protected:
  ReplayServerTest() { std::filesystem::remove_all(kv_directory_); }
  ~ReplayServerTest() override {
    stop();
    std::filesystem::remove_all(kv_directory_);
  }

  void start(const GeneratorOptions& options, bool has_disk = false) {
    EngineOptions engine = test::trained_engine();
    if (has_disk) engine.kv_disk_dir = kv_directory_;
    engine.sessions.disk_least_tokens = 1;
    EngineServerTest::start(engine, options);
  }

  Json ask(const Json& messages) {
    const Json body = {{"messages", messages}, {"temperature", 0}, {"thinking", true}, {"tools", {tool()}}};
    return Json::parse(post("/v1/chat/completions", body.dump()).body, nullptr, false);
  }

  static Json tool() {
    return {{"type", "function"},
            {"function",
             {{"name", "get_weather"},
              {"description", "Get the current weather for a city."},
              {"parameters",
               {{"type", "object"},
                {"properties", {{"city", {{"type", "string"}, {"description", "City name"}}}}},
                {"required", {"city"}}}}}}};
  }

  Json ask_first() { return ask({{{"role", "user"}, {"content", "What is the weather in Paris?"}}}); }

  // Returns the call of that answer in JSON of the client's own, with a result.
  Json ask_second(const Json& first) {
    Json message = first["choices"][0]["message"];
    EXPECT_TRUE(message.contains("tool_calls")) << first.dump();
    Json& call = message["tool_calls"][0];
    call["function"]["arguments"] = Json::parse(call["function"]["arguments"].get<std::string>()).dump(3, ' ', true);
    const Json result = {{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "21 degrees, sunny"}};
    return ask({{{"role", "user"}, {"content", "What is the weather in Paris?"}}, message, result});
  }

  static int cached_tokens(const Json& answer) {
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
  }

  const std::string kv_directory_ = test::temporary_path("replay");
};

TEST_F(ReplayServerTest, ComputesNothingOfAReturnedTurnAgain) {
  start({});
  const Json first = ask_first();
  const Json second = ask_second(first);
  EXPECT_EQ(generator_->replay_statistics().n_memory, 1U);
  EXPECT_EQ(generator_->replay_statistics().n_canonical, 0U);
  // All but the token that was sampled last, which was not run.
  EXPECT_GE(cached_tokens(second), first["usage"]["total_tokens"].get<int>() - 1);
}

TEST_F(ReplayServerTest, RemembersAcrossARestart) {
  start({}, true);
  const Json first = ask_first();
  start({}, true);
  const Json second = ask_second(first);
  EXPECT_EQ(second["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(generator_->replay_statistics().n_store, 1U);
  EXPECT_EQ(generator_->replay_statistics().n_canonical, 0U);
  EXPECT_GE(cached_tokens(second), first["usage"]["total_tokens"].get<int>() - 1);
}

TEST_F(ReplayServerTest, RemembersNothingWhenToldTo) {
  GeneratorOptions options;
  options.replay.max_ids = 0;
  start(options);
  EXPECT_EQ(ask_second(ask_first())["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(generator_->replay_statistics().n_memory, 0U);
}

}  // namespace
}  // namespace ds4
