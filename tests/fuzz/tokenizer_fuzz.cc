// Any bytes as data text: no added token may appear, and the tokens must spell the text with ill-formed parts replaced.
// With recognition on, and streamed through the detokeniser, the text must come back as well.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace {

using namespace ds4;

struct MergePair {
  std::string_view left;
  std::string_view right;
};

constexpr std::array<MergePair, 12> kMerges{{
    {" ", " "},
    {"  ", "  "},
    {"a", "a"},
    {"aa", "a"},
    {"a", "b"},
    {"ab", "ab"},
    {"\n", "\n"},
    {"<", "/"},
    {"\xEF\xBD", "\x9C"},
    {"\xEF", "\xBD"},
    {"\xE4", "\xBD"},
    {"t", "h"},
}};

std::unique_ptr<Tokenizer> make_tokenizer() {
  VocabularyData data = byte_level_vocabulary(300);
  for (const auto& [left, right] : kMerges) {
    for (const auto& part : {std::string(left), std::string(right), std::string(left).append(right)}) {
      if (part.size() < 2) continue;
      data.tokens.push_back(spell_in_alphabet(part));
      data.token_types.push_back(static_cast<int32_t>(TokenType::kNormal));
    }
    data.merges.push_back(spell_in_alphabet(left) + " " + spell_in_alphabet(right));
  }
  auto tokenizer = Tokenizer::create(std::move(data));
  CHECK(tokenizer.ok(), "{}", tokenizer.error().message);
  return std::move(tokenizer).value();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const std::string expected = replace_ill_formed_utf8(bytes);

  std::string decoded;
  for (const int32_t id : tokenizer->encode_text(bytes)) {
    CHECK(!tokenizer->is_added(id), "text gave the added token {}", id);
    decoded += tokenizer->token_bytes(id);
  }
  CHECK(decoded == expected, "decoded text differs");

  Detokenizer detokenizer(*tokenizer);
  std::string streamed;
  for (const int32_t id : tokenizer->encode_with_special(bytes)) streamed += detokenizer.push(id);
  streamed += detokenizer.finish();
  CHECK(streamed == expected, "streamed text differs");
  return 0;
}
