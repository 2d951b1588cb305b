#pragma once

// The tokens of an assistant's turn, as the renderer would write them and as a model might have sampled them: a sampler
// cuts text into tokens in other ways than the tokenizer does, and writes JSON as it likes. Any thread.

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/rng.h"
#include "chat/message.h"
#include "text/tokenizer.h"

namespace ds4 {

struct SampledForm {
  double recut_share = 0;     // of the text tokens that become two
  bool compact_json = false;  // no spaces in JSON values
};

struct RenderedTurn {
  std::vector<int32_t> prompt;   // canonical
  std::vector<int32_t> sent;     // the same with the tool calls that options.replay knows as they were sampled
  std::vector<int32_t> answer;   // canonical, with the token that ends it
  std::vector<int32_t> sampled;  // as the model gives it
  bool starts_in_thinking = false;
};

class TurnRenderer {
 public:
  explicit TurnRenderer(const Tokenizer& tokenizer, const SampledForm& form, uint64_t seed);

  // Error: that of render(), or the answer does not continue the prompt.
  Result<RenderedTurn> render(const Conversation& conversation, const Message& answer, const RenderOptions& options);

  // Tokens of the canonical prompt; 0 where render() fails.
  int32_t count_prompt(const Conversation& conversation, const RenderOptions& options) const;

  // Each text token becomes two with the probability recut_share, where the vocabulary has both parts.
  std::vector<int32_t> recut(std::vector<int32_t> tokens);

 private:
  const Tokenizer& tokenizer_;
  SampledForm form_;
  Xorshift64Star rng_;
  std::unordered_map<std::string, int32_t> ids_;  // of texts
};

// JSON text without white space outside of strings.
std::string without_json_spaces(std::string_view json);

}  // namespace ds4
