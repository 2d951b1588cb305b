#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/log.h"
#include "base/utf8.h"
#include "chat/python_json.h"
#include "chat/renderer.h"
#include "server/openai_responses.h"

// Any body is a request that renders, or an error that is a well-formed answer.
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
  return 0;
}
