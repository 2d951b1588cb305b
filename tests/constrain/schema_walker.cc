#include "constrain/schema_walker.h"

#include <gtest/gtest.h>

#include "constrain/json_schema.h"

namespace ds4::test {

std::vector<std::pair<std::string, int32_t>> json_tokens() {
  std::vector<std::pair<std::string, int32_t>> tokens;
  const auto add = [&tokens](std::string bytes) {
    tokens.emplace_back(std::move(bytes), static_cast<int32_t>(tokens.size()));
  };
  for (int byte = 0; byte < 256; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (const char* token :
       {"\":",      "\": ",  "\",",     "\", \"", "{\"",  "\"}",   "\"}]",  "[{",  "}}",   "]}",   ": \"",
        ", ",       ",\n  ", "\n",      "  ",     "true", "false", "null",  "abc", "na",   "name", "\xC3\xA4\xC3\xB6",
        "\xE2\x82", "123",   "0.",      "-1",     "e1",   "\\n",   "\\u00", "</",  "\\\"", " \"",  "\": [",
        "\": {\"",  "    ",  "\n    \""}) {
    add(token);
  }
  return tokens;
}

Result<std::unique_ptr<SchemaWalker>> SchemaWalker::create(std::string_view json_schema) {
  auto walker = std::make_unique<SchemaWalker>();
  const JsonValue schema = TRY(parse_json(json_schema, JsonDialect::kStandard));
  JsonGrammar json(*walker->grammar_);
  const GrammarState end = walker->grammar_->add_state();
  walker->start_ = walker->grammar_->add_state();
  walker->grammar_->set_end(end);
  TRY(JsonSchemaBuilder(schema, json).add_root(walker->start_, end, ValueForm::kJson));
  walker->grammar_->prune();
  if (!walker->grammar_->can_end(walker->start_)) return make_error(ErrorCode::kInvalidArgument, "no value fits");
  const auto tokens = json_tokens();
  for (const auto& [bytes, id] : tokens) walker->bytes_.push_back(bytes);
  const auto n = static_cast<int32_t>(tokens.size());
  walker->trie_ = std::make_shared<TokenTrie>(tokens, n + 1, n);
  walker->matcher_ = std::make_unique<ByteMatcher>(walker->grammar_, walker->trie_);
  return walker;
}

// In a hurry, what ends values comes first.
int32_t SchemaWalker::choose(const TokenMask& mask, Xorshift64Star& rng, bool hurry) const {
  if (hurry) {
    if (mask.allows(bytes_.size())) return static_cast<int32_t>(bytes_.size());
    for (const char c : std::string_view("\"0]}n"))
      if (mask.allows(static_cast<uint8_t>(c))) return static_cast<uint8_t>(c);
  }
  std::vector<int32_t> allowed;
  for (size_t i = 0; i < mask.size(); ++i) {
    if (mask.allows(i)) allowed.push_back(static_cast<int32_t>(i));
  }
  return allowed.empty() ? -1 : allowed[rng.next() % allowed.size()];
}

std::string SchemaWalker::write(Xorshift64Star& rng, size_t max_tokens) {
  MatchPosition position = matcher_->start(start_);
  std::string text;
  for (size_t n = 0; n < max_tokens; ++n) {
    const bool hurry = rng.next() % 4 == 0 || n > 60;
    const int32_t token = choose(matcher_->mask(position), rng, hurry && (n < 400 || rng.next() % 8 != 0));
    if (token < 0) {
      ADD_FAILURE() << "no token may follow: " << text;
      return text;
    }
    if (token == trie_->eos_id()) {
      EXPECT_TRUE(matcher_->can_end(position));
      return text;
    }
    text += bytes_[static_cast<size_t>(token)];
    if (!matcher_->advance(position, bytes_[static_cast<size_t>(token)])) {
      ADD_FAILURE() << "an allowed token does not fit: " << text;
      return text;
    }
  }
  ADD_FAILURE() << "does not end: " << text.substr(0, 1000);
  return text;
}

bool SchemaWalker::accepts(std::string_view text) {
  MatchPosition position = matcher_->start(start_);
  return matcher_->advance(position, text) && matcher_->can_end(position);
}

}  // namespace ds4::test
