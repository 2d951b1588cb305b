#pragma once

// Writes random texts that a schema's grammar allows, token by token from the masks, the way a model would.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "constrain/byte_matcher.h"

namespace ds4::test {

// Bytes, and some longer tokens that cross the borders of JSON's parts.
std::vector<std::pair<std::string, int32_t>> json_tokens();

class SchemaWalker {
 public:
  static Result<std::unique_ptr<SchemaWalker>> create(std::string_view json_schema);

  // Fails the test when no token is allowed, or one that is allowed does not fit.
  std::string write(Xorshift64Star& rng, size_t max_tokens = 4000);
  bool accepts(std::string_view text);

  ByteMatcher& matcher() { return *matcher_; }
  const ByteGrammar& grammar() const { return *grammar_; }
  GrammarState start() const { return start_; }
  const TokenTrie& trie() const { return *trie_; }

 private:
  int32_t choose(const TokenMask& mask, Xorshift64Star& rng, bool hurry) const;

  std::vector<std::string> bytes_;  // by token
  std::shared_ptr<ByteGrammar> grammar_ = std::make_shared<ByteGrammar>();
  std::shared_ptr<const TokenTrie> trie_;
  std::unique_ptr<ByteMatcher> matcher_;
  GrammarState start_ = 0;
};

}  // namespace ds4::test
