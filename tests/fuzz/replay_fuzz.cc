// Any bytes as a stored tool-call block: refused, or what comes out goes in again, renders, and is no more than its
// text.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "chat/markup.h"
#include "chat/sampled_calls.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const ds4::Result<ds4::SampledCalls> decoded = ds4::decode_sampled_calls(bytes);
  if (!decoded.ok()) {
    require(!decoded.error().message.empty());
    return 0;
  }
  require(ds4::encode(decoded.value()) == bytes);
  ds4::SegmentBuilder builder;
  ds4::write_sampled_calls(decoded.value(), builder);
  std::string text;
  for (const ds4::PromptSegment& segment : builder.take()) {
    require(segment.control.has_value() == segment.text.empty() && ds4::is_well_formed_utf8(segment.text));
    text += segment.control ? ds4::control_token_text(*segment.control) : std::string_view(segment.text);
  }
  require(text == ds4::spell_controls(decoded.value().text));
  const ds4::ToolCall call{.id = {}, .name = "bash", .arguments = "{}"};
  ds4::says_the_same(decoded.value(), std::span(&call, 1));
  return 0;
}
