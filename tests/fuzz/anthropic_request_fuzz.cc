#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/utf8.h"
#include "chat/renderer.h"
#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"

// Any body is a request that renders, or an error that is a well-formed answer. Any text is a signature, or none.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  if (const auto text = ds4::signed_thinking(input)) {
    CHECK(ds4::signs_thinking(ds4::sign_thinking(*text, ds4::SignatureKind::kText), *text), "a text of no signature");
  }
  const ds4::ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
  const auto parsed = ds4::parse_messages_request(input, served);
  if (const auto* error = std::get_if<ds4::ApiError>(&parsed)) {
    CHECK(!error->message.empty() && error->status == 400, "{}", error->message);
    CHECK(ds4::is_well_formed_utf8(ds4::anthropic_error_json(*error, "r")), "{}", error->message);
    return 0;
  }
  const auto& request = std::get<ds4::MessagesRequest>(parsed);
  CHECK(!request.conversation.messages.empty() && request.max_tokens >= 0, "an empty request was accepted");
  CHECK(ds4::is_well_formed_utf8(request.model), "ill-formed model name");
  const auto rendered = ds4::render(request.conversation, request.render);
  CHECK(rendered.ok() || !rendered.error().message.empty(), "an error without a message");
  return 0;
}
