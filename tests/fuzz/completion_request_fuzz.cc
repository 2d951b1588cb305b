#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/utf8.h"
#include "server/openai_completions.h"

// Any body is a request with prompts, or an error that is a well-formed answer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ds4::ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
  const auto parsed = ds4::parse_completion_request(std::string(reinterpret_cast<const char*>(data), size), served);
  if (const auto* error = std::get_if<ds4::ApiError>(&parsed)) {
    CHECK(!error->message.empty() && error->status == 400, "{}", error->message);
    CHECK(ds4::is_well_formed_utf8(ds4::openai_error_json(*error)), "{}", error->message);
    return 0;
  }
  const auto& request = std::get<ds4::CompletionRequest>(parsed);
  CHECK(!request.prompts.empty() && request.max_tokens >= 0 && request.n >= 1, "an empty request was accepted");
  CHECK(ds4::is_well_formed_utf8(request.model), "ill-formed model name");
  for (const ds4::RawPrompt& prompt : request.prompts) {
    if (const auto* text = std::get_if<std::string>(&prompt)) {
      CHECK(ds4::is_well_formed_utf8(*text), "an ill-formed prompt");
    } else {
      for (const int32_t token : std::get<std::vector<int32_t>>(prompt)) CHECK(token >= 0, "token {}", token);
    }
  }
  return 0;
}
