// Any bytes as tokenizer.json: an error or a vocabulary, and a tokenizer made of it must give back what it encodes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto vocabulary = ds4::parse_tokenizer_json({reinterpret_cast<const char*>(data), size});
  if (!vocabulary.ok()) return 0;
  const auto tokenizer = ds4::Tokenizer::create(std::move(vocabulary).value());
  if (!tokenizer.ok()) return 0;
  constexpr std::string_view kText = "Hello, world  12345\n";
  std::string decoded;
  for (const int32_t id : tokenizer.value()->encode_text(kText)) decoded += tokenizer.value()->token_bytes(id);
  CHECK(decoded == kText, "decoded text differs");
  return 0;
}
