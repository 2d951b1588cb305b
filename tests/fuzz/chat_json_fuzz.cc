// The body of a chat request, any bytes: an error that says something, or a conversation that renders to well-formed
// text, with an error of its own at most.

#include <cstdint>
#include <string>
#include <variant>

#include "base/utf8.h"
#include "chat/renderer.h"
#include "server/openai_chat.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

void check_prompt(const ds4::RenderedPrompt& prompt) {
  for (size_t i = 0; i < prompt.segments.size(); ++i) {
    const ds4::PromptSegment& segment = prompt.segments[i];
    require(segment.control.has_value() == segment.text.empty());
    require(i == 0 || segment.control || prompt.segments[i - 1].control);
    require(ds4::is_well_formed_utf8(segment.text));
  }
  for (const size_t anchor : prompt.anchors) require(anchor < prompt.segments.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ds4::ServedModel served;
  served.id = "model";
  served.name = "Model";
  served.ctx_tokens = 4096;
  auto parsed = ds4::parse_chat_request(std::string(reinterpret_cast<const char*>(data), size), served);
  if (const auto* error = std::get_if<ds4::ApiError>(&parsed)) {
    require(error->status >= 400 && !error->message.empty());
    return 0;
  }
  const auto& request = std::get<ds4::ChatRequest>(parsed);
  const auto prompt = ds4::render(request.conversation, request.render);
  if (prompt.ok()) check_prompt(prompt.value());
  require(prompt.ok() || !prompt.error().message.empty());
  return 0;
}
