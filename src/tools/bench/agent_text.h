#pragma once

// Text for made-up conversations: prose, program text and tool definitions of a wanted length, the same for a seed
// and another for every other seed, so that two texts share nothing by accident. One thread per object.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/rng.h"

namespace ds4 {

class AgentText {
 public:
  explicit AgentText(uint64_t seed) : rng_(seed) {}

  // In [least, most].
  int32_t number(int32_t least, int32_t most);
  std::string hex(int n_digits);
  std::string_view word();
  std::string phrase();
  std::string name();  // "parse_token_list"
  std::string path();  // "src/parser/token_list.cc"
  // These end at a word or line, up to some 80 bytes beyond n_bytes.
  std::string prose(size_t n_bytes);
  std::string code(size_t n_bytes);
  std::string listing(size_t n_bytes);  // what commands print
  // The JSON text of a function that a model may call, with a description and parameters.
  std::string tool(std::string_view tool_name, size_t n_bytes);

 private:
  std::string code_line();
  std::string listing_line();
  Xorshift64Star rng_;
};

}  // namespace ds4
