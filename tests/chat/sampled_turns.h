#pragma once

// Turns as a model may sample them, with everything that models get wrong and the parser forgives, and clients that
// send the calls back in a JSON of their own.

#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "chat/message.h"
#include "chat/segment_builder.h"

namespace ds4::test {

class Dice {
 public:
  explicit Dice(uint64_t seed) : rng_(seed) {}
  size_t below(size_t n) { return static_cast<size_t>(rng_.next() >> 33) % n; }
  bool one_in(size_t n) { return below(n) == 0; }
  template <size_t n>
  std::string_view pick(const std::string_view (&choices)[n]) {
    return choices[below(n)];
  }
  std::string text(size_t max_words);

 private:
  Xorshift64Star rng_;
};

// Reasoning, content and usually tool calls, up to the end of sentence or the block's closer and what shares its token.
PromptSegments sample_turn(Dice& dice, bool thinks);

// The same JSON value in other words.
std::string reformat_json(std::string_view json, Dice& dice);

}  // namespace ds4::test
