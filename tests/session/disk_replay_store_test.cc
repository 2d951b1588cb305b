#include "session/disk_replay_store.h"

#include <gtest/gtest.h>

#include "chat/markup.h"
#include "session/store_content.h"

namespace ds4 {
namespace {

using test::MemoryStore;

SampledCalls call_with(std::string value) {
  const Markup markup = token_markup();
  return {.text = "\n\n" + markup.block_opener + " " + markup.tag_opener + "invoke name=\"f\">" + markup.tag_opener +
                  "parameter name=\"x\">" + std::move(value) + markup.parameter_closer + markup.tag_closer + "invoke>" +
                  markup.tag_closer + "tool_calls>\n",
          .ends_reasoning = true};
}

std::vector<ToolCall> returned(std::string id, const std::string& value) {
  return {{.id = std::move(id), .name = "f", .arguments = R"({ "x":")" + value + "\"}"}};
}

TEST(DiskReplayStoreTest, CallsSurviveARestart) {
  MemoryStore memory;
  {
    const auto disk = memory.open();
    DiskReplayStore store(*disk);
    ReplayMap map({}, &store);
    map.record(std::vector<std::string>{"call_1"}, call_with("a"));
    map.record(std::vector<std::string>{"call_2"}, call_with("b"));
  }
  const auto disk = memory.open();
  DiskReplayStore store(*disk);
  ReplayMap map({}, &store);
  const auto found = map.find(returned("call_2", "b"));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(*found, call_with("b"));
  EXPECT_EQ(map.find(returned("call_3", "b")), nullptr);
  EXPECT_EQ(map.statistics().n_store, 1U);
  EXPECT_EQ(map.statistics().n_missing_ids, 1U);
}

TEST(DiskReplayStoreTest, ABlockThatIsTooLargeStaysInMemory) {
  MemoryStore memory;
  const std::string value(DiskStore::kMaxBlobBytes, 'x');
  const auto disk = memory.open();
  DiskReplayStore store(*disk);
  ReplayMap map({}, &store);
  map.record(std::vector<std::string>{"call_1"}, call_with(value));
  EXPECT_NE(map.find(returned("call_1", value)), nullptr);
  EXPECT_EQ(disk->statistics().n_queued + disk->statistics().n_blobs, 0);
}

}  // namespace
}  // namespace ds4
