#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/check.h"
#include "chat/output_parser.h"
#include "fuzz/keeping_responder.h"
#include "server/anthropic_messages.h"
#include "support/message_accumulator.h"

namespace {

using ds4::test::KeepingResponder;
using ds4::test::MessageAccumulator;

// What the model wrote as the sinks send it, in pieces of `piece` bytes.
struct Answer {
  MessageAccumulator::Json streamed;
  MessageAccumulator::Json whole;
  bool is_cut_off = false;  // a call has no end
};

Answer answer_of(std::string_view output, size_t piece, bool omits_thinking, bool hits_limit) {
  const auto stream = std::make_shared<KeepingResponder>();
  const auto whole = std::make_shared<KeepingResponder>();
  const ds4::MessageInfo info{.id = "m", .request_id = "r", .model = "x", .omits_thinking = omits_thinking};
  const auto stream_sink = ds4::make_message_stream(info, stream);
  const auto whole_sink = ds4::make_message_answer(info, whole);
  Answer answer;
  const auto pass_on = [&](ds4::OutputEvents events) {
    for (const ds4::OutputEvent& event : events) {
      if (std::get_if<ds4::ToolCallBegin>(&event) != nullptr) answer.is_cut_off = true;
      if (std::get_if<ds4::ToolCallEnd>(&event) != nullptr) answer.is_cut_off = false;
    }
    whole_sink->on_events(0, events);
    stream_sink->on_events(0, std::move(events));
  };
  stream_sink->begin();
  ds4::OutputParser parser({.starts_in_thinking = true, .tools_enabled = true, .stop_strings = {"STOP"}});
  for (size_t at = 0; at < output.size(); at += piece) pass_on(parser.push_text(output.substr(at, piece)));
  pass_on(parser.finish(hits_limit));
  pass_on({ds4::Finished{parser.finish_reason(), {}, {}, parser.matched_stop_string()}});
  const MessageAccumulator accumulated(stream->bytes);
  CHECK(accumulated.problem().empty(), "{}: {}", accumulated.problem(), stream->bytes);
  answer.streamed = accumulated.message();
  answer.whole = MessageAccumulator::Json::parse(whole->bytes, nullptr, false);
  return answer;
}

}  // namespace

// The first byte chooses; the rest is what the model writes. Any cut gives the same message, streamed and whole.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool omits_thinking = (data[0] & 1U) != 0;
  const bool hits_limit = (data[0] & 2U) != 0;
  const std::string_view output(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Answer one = answer_of(output, output.size() + 1, omits_thinking, hits_limit);
  const Answer two = answer_of(output, 1U + (data[0] >> 2U) % 8U, omits_thinking, hits_limit);
  CHECK(one.streamed == two.streamed && one.whole == two.whole, "{} and {}", one.streamed.dump(), two.streamed.dump());
  CHECK(one.is_cut_off || one.streamed == one.whole, "{} and {}", one.streamed.dump(), one.whole.dump());
  return 0;
}
