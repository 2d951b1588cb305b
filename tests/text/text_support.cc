#include "text/text_support.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/tokenizer_json.h"

namespace ds4::test {

std::string read_text_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

Json read_json_vectors(const std::string& name) {
  return Json::parse(read_text_file(DS4_SOURCE_DIR "/tests/vectors/tokenizer/" + name));
}

std::vector<Json> read_jsonl_vectors(const std::string& name) {
  std::vector<Json> cases;
  const std::string text = read_text_file(DS4_SOURCE_DIR "/tests/vectors/tokenizer/" + name);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    cases.push_back(Json::parse(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  EXPECT_FALSE(cases.empty()) << name;
  return cases;
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::string to_utf8(const std::vector<char32_t>& code_points) {
  std::string text;
  for (const char32_t c : code_points) append_utf8(text, c);
  return text;
}

VocabularyData small_vocabulary() {
  VocabularyData data = byte_level_vocabulary(kControlTokens.size() + 256);
  const auto add_merge = [&data](std::string_view left, std::string_view right) {
    data.merges.push_back(spell_in_alphabet(left) + " " + spell_in_alphabet(right));
    const std::string merged = spell_in_alphabet(std::string(left) + std::string(right));
    if (std::ranges::find(data.tokens, merged) != data.tokens.end()) return;
    data.tokens.push_back(merged);
    data.token_types.push_back(static_cast<int32_t>(TokenType::kNormal));
  };
  add_merge("l", "l");
  add_merge("h", "e");
  add_merge("o", "r");
  add_merge("he", "ll");
  add_merge("hell", "o");
  add_merge(" ", "w");
  add_merge(" w", "or");
  add_merge("l", "d");
  add_merge(" wor", "ld");
  add_merge("<", "/");
  add_merge("}", "</");
  add_merge(" ", " ");
  add_merge("  ", "  ");
  add_merge("    ", "    ");
  add_merge("a", "b");
  add_merge("b", "c");
  add_merge("a", "bc");
  add_merge("a", "a");
  return data;
}

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& path) {
  if (path.empty() || !std::filesystem::is_regular_file(path)) return nullptr;
  auto data = parse_tokenizer_json(read_text_file(path));
  EXPECT_TRUE(data.ok()) << data.error().message;
  auto tokenizer = Tokenizer::create(std::move(data).value());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  return std::move(tokenizer).value();
}

}  // namespace ds4::test
