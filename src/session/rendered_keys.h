#pragma once

// Names for what a token run says, whatever way it was cut into tokens. A model samples a text in one way, and the
// client that sends it back has it encoded in another; both give the same key wherever a control token stands, because
// merges never cross one. A key names all control tokens and bytes up to its position. Pure functions, any thread.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "session/hash.h"
#include "text/tokenizer.h"

namespace ds4 {

struct RenderedBoundary {
  size_t n_tokens = 0;  // tokens before the boundary
  Hash128 key;
};

// Positions right before and right after control tokens, ascending, without 0. Keys start from the root, as those of
// pages do.
std::vector<RenderedBoundary> rendered_boundaries(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                                                  const Hash128& root = {});

// The key of all tokens, as if a control token followed.
Hash128 rendered_key(const Tokenizer& tokenizer, std::span<const int32_t> tokens, const Hash128& root = {});

// Whether both say the same: the comparison behind equal keys.
bool same_rendering(const Tokenizer& tokenizer, std::span<const int32_t> a, std::span<const int32_t> b);

}  // namespace ds4
