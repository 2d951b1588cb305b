#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "base/utf8.h"
#include "chat/output_parser.h"
#include "chat/python_json.h"
#include "chat/renderer.h"
#include "server/openai_responses.h"

namespace {

constexpr size_t kMaxModelBytes = 800;

class KeepingResponder final : public ds4::Responder {
 public:
  void send(ds4::HttpResponse response) override { bytes = std::move(response.body); }
  void begin_stream(ds4::HttpResponse head, std::string) override { bytes = std::move(head.body); }
  void write(std::string chunk) override { bytes += chunk; }
  void end() override {}
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return nullptr; }

  std::string bytes;
};

// What the model writes, whole or byte by byte, as the bytes of the terminal event's response.
std::string answer(const ds4::ResponsesPlan& plan, const std::string& text, bool bytewise) {
  const auto responder = std::make_shared<KeepingResponder>();
  const auto sink = ds4::make_responses_stream(plan, std::make_shared<ds4::ResponsesMemory>(), responder);
  sink->begin();
  ds4::OutputParser parser({.starts_in_thinking = true, .tools_enabled = true});
  const size_t step = bytewise ? 1 : text.size() + 1;
  for (size_t at = 0; at < text.size(); at += step) sink->on_events(parser.push_text(text.substr(at, step)));
  ds4::OutputEvents last = parser.finish(true);
  last.push_back(ds4::Finished{parser.finish_reason(), {}});
  sink->on_events(std::move(last));
  CHECK(ds4::is_well_formed_utf8(responder->bytes), "ill-formed events");
  const std::string& events = responder->bytes;
  const size_t output = events.rfind("\"output\":[");
  const size_t end = events.rfind(",\"background\"");
  CHECK(output != std::string::npos && end != std::string::npos && output < end, "no terminal event");
  return events.substr(output, end - output);
}

}  // namespace

// Any body is a request that renders, or an error that is a well-formed answer; and any bytes of the model give the
// same response, however they are cut.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ds4::set_log_level(ds4::LogLevel::kError);
  const std::string body(reinterpret_cast<const char*>(data), size);
  const ds4::ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
  ds4::ResponsesMemory memory;
  const auto parsed = ds4::parse_responses_request(body, served, memory);
  if (const auto* error = std::get_if<ds4::ApiError>(&parsed)) {
    CHECK(!error->message.empty() && error->status == 400, "{}", error->message);
    CHECK(ds4::is_well_formed_utf8(ds4::openai_error_json(*error)), "{}", error->message);
  } else {
    const auto& request = std::get<ds4::ResponsesRequest>(parsed);
    CHECK(!request.conversation.messages.empty() && request.max_tokens >= 0, "an empty request was accepted");
    CHECK(ds4::is_well_formed_utf8(request.plan.settings), "ill-formed settings");
    for (const auto& item : request.plan.input) {
      CHECK(!item->id.empty() && ds4::parse_json(item->json).ok(), "a stored item cannot be read: {}", item->json);
    }
    const auto rendered = ds4::render(request.conversation, request.render);
    CHECK(rendered.ok() || !rendered.error().message.empty(), "an error without a message");
  }
  const std::string tools = R"([{"type":"custom","name":"p"},{"type":"tool_search","execution":"client"}])";
  auto plain = ds4::parse_responses_request(R"({"input":"x","store":false,"tools":)" + tools + "}", served, memory);
  ds4::ResponsesPlan plan = std::get<ds4::ResponsesRequest>(plain).plan;
  plan.id = "resp_1";
  // An event per byte: longer texts take long and find nothing else.
  const std::string text = body.substr(0, kMaxModelBytes);
  CHECK(answer(plan, text, false) == answer(plan, text, true), "the response depends on the cuts");
  return 0;
}
