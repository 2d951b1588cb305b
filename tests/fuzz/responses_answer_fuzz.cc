#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/utf8.h"
#include "chat/output_parser.h"
#include "fuzz/keeping_responder.h"
#include "server/openai_responses.h"

namespace {

// Events are many for each byte: longer texts take long and find nothing else.
constexpr size_t kMaxModelBytes = 400;

// A response with every kind of tool, made once.
const ds4::ResponsesPlan& plan() {
  static const ds4::ResponsesPlan made = [] {
    const ds4::ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
    ds4::ResponsesMemory memory;
    const char* body = R"({"input":"x","store":false,)"
                       R"("tools":[{"type":"custom","name":"p"},{"type":"tool_search","execution":"client"}]})";
    ds4::ResponsesPlan plan = std::get<ds4::ResponsesRequest>(parse_responses_request(body, served, memory)).plan;
    plan.id = "resp_1";
    return plan;
  }();
  return made;
}

// What the model writes, in pieces of `piece` bytes, as the bytes of the terminal event's response.
std::string answer(const std::string& text, size_t piece) {
  const auto responder = std::make_shared<ds4::test::KeepingResponder>();
  const auto sink = ds4::make_responses_stream(plan(), std::make_shared<ds4::ResponsesMemory>(), responder);
  sink->begin();
  ds4::OutputParser parser({.starts_in_thinking = true, .tools_enabled = true});
  for (size_t at = 0; at < text.size(); at += piece) sink->on_events(0, parser.push_text(text.substr(at, piece)));
  ds4::OutputEvents last = parser.finish(true);
  last.push_back(ds4::Finished{parser.finish_reason(), {}});
  sink->on_events(0, std::move(last));
  CHECK(ds4::is_well_formed_utf8(responder->bytes), "ill-formed events");
  const std::string& events = responder->bytes;
  const size_t output = events.rfind("\"output\":[");
  const size_t end = events.rfind(",\"background\"");
  CHECK(output != std::string::npos && end != std::string::npos && output < end, "no terminal event");
  return events.substr(output, end - output);
}

}  // namespace

// The first byte chooses the cuts; the rest is what the model writes. Any cut gives the same response.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, std::min(size - 1, kMaxModelBytes));
  CHECK(answer(text, text.size() + 1) == answer(text, 1U + data[0] % 8U), "the response depends on the cuts");
  return 0;
}
