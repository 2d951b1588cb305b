// How long it takes to compile a schema and to find the tokens that may come next, at a made-up vocabulary of 129,280
// tokens (bench/README.md).

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/rng.h"
#include "constrain/byte_matcher.h"
#include "constrain/json_schema.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kTokens = 129'280;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Bytes, then words of 2 to 12 letters, half of them behind a space, and some punctuation.
std::vector<std::pair<std::string, int32_t>> made_up_tokens() {
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(std::string(1, static_cast<char>(byte)), byte);
  ds4::Xorshift64Star rng(1);
  constexpr std::string_view kMarks = "\"{}[],:;.<>/\\ \n-_()01234567899";
  while (tokens.size() < kTokens - 1) {
    std::string bytes;
    const uint64_t kind = rng.next() % 8;
    if (kind < 4) bytes = " ";
    for (uint64_t n = 2 + rng.next() % 10; n > 0; --n) {
      bytes += kind == 7 ? kMarks[rng.next() % kMarks.size()] : static_cast<char>('a' + rng.next() % 26);
    }
    tokens.emplace_back(bytes, static_cast<int32_t>(tokens.size()));
  }
  return tokens;
}

struct Case {
  std::string_view name;
  std::string_view schema;
  std::string answer;
};

std::vector<Case> cases() {
  std::string words;
  while (words.size() < 600) words += "some words of a long text ";
  return {
      {"an object",
       R"({"type":"object","properties":{"name":{"type":"string"},"code":{"type":"string","maxLength":40},)"
       R"("count":{"type":"integer","minimum":0,"maximum":1000},"tags":{"type":"array","items":{"type":"string"}}},)"
       R"("required":["name","code","count","tags"],"additionalProperties":false})",
       R"({"name": "a long name with words", "code": "abc def ghi", "count": 12, "tags": ["x y", "z"]})"},
      {"a string of up to 10,000 characters", R"({"type":"string","maxLength":10000})", '"' + words},
      {"a pattern of up to 1,000 repetitions", R"({"type":"string","pattern":"^(?:[a-z]|[ ]){1,1000}$"})",
       '"' + words}};
}

bool measure(const Case& measured, const std::shared_ptr<const ds4::TokenTrie>& trie) {
  const auto schema = ds4::parse_json(measured.schema);
  const auto start = Clock::now();
  auto grammar = std::make_shared<ds4::ByteGrammar>();
  ds4::JsonGrammar json(*grammar);
  const ds4::GrammarState first = grammar->add_state(), last = grammar->add_state();
  grammar->set_end(last);
  if (!ds4::JsonSchemaBuilder(schema.value(), json).add_root(first, last, ds4::ValueForm::kJson).ok()) return false;
  grammar->prune();
  fmt::print("{}: compiled in {:.0f} us, {} states\n", measured.name, microseconds_since(start), grammar->n_states());

  ds4::ByteMatcher matcher(grammar, trie);
  for (const char* round : {"first", "second"}) {
    double total = 0, worst = 0;
    ds4::MatchPosition position = matcher.start(first);
    for (const char& c : measured.answer) {
      const auto begin = Clock::now();
      matcher.mask(position);
      if (!matcher.advance(position, {&c, 1})) return false;
      const double us = microseconds_since(begin);
      total += us;
      worst = std::max(worst, us);
    }
    const auto n = static_cast<double>(measured.answer.size());
    fmt::print("  {} answer: {:.2f} us a step, at most {:.0f}, over {} steps of a byte each\n", round, total / n, worst,
               n);
  }
  return true;
}

}  // namespace

int main() {
  const auto start = Clock::now();
  const auto trie = std::make_shared<const ds4::TokenTrie>(made_up_tokens(), kTokens, kTokens - 1);
  fmt::print("{} tokens, {} nodes, built in {:.0f} us\n", trie->n_vocab(), trie->nodes().size(),
             microseconds_since(start));
  for (const Case& measured : cases()) {
    if (!measure(measured, trie)) return 1;
  }
  return 0;
}
