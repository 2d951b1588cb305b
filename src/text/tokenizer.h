#pragma once

// Text to token ids and back, for byte-level BPE vocabularies with DeepSeek's pre-tokeniser. The safety rule of the
// project lives here: data text never yields an added token; only control segments do (encode), or the caller says
// that the whole text is trusted (encode_with_special). No BOS is ever added: the chat renderer writes it.
// Ill-formed UTF-8 is replaced by U+FFFD before it is split (base/utf8.h). Const and thread safe.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/prompt_segments.h"
#include "text/added_token_matcher.h"
#include "text/bpe.h"
#include "text/vocabulary.h"

namespace ds4 {

class Tokenizer {
 public:
  static Result<std::unique_ptr<Tokenizer>> create(VocabularyData data);
  explicit Tokenizer(Vocabulary vocabulary);
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Adjacent texts are joined before they are split, as if the template and its data were one text. A control token
  // that the vocabulary lacks is encoded as its literal text.
  std::vector<int32_t> encode(std::span<const PromptSegment> segments) const;
  // Recognition off: the text is data.
  std::vector<int32_t> encode_text(std::string_view text) const;
  // Recognition on: every added token's spelling becomes that token. For rendered prompts from a trusted source.
  std::vector<int32_t> encode_with_special(std::string_view text) const;

  // What a token adds to the output; may end inside a UTF-8 character (text/detokenizer.h).
  // Precondition of these four: 0 <= id < n_vocab().
  std::string_view token_bytes(int32_t id) const { return vocabulary_.bytes(id); }
  // The spelling stored in the vocabulary.
  std::string_view token_text(int32_t id) const { return vocabulary_.text(id); }
  bool is_control(int32_t id) const { return vocabulary_.is_control(id); }
  bool is_added(int32_t id) const { return vocabulary_.is_added(id); }

  // Always present for the required control tokens.
  std::optional<int32_t> control_id(ControlToken token) const { return vocabulary_.control_id(token); }
  int32_t eos_id() const { return *vocabulary_.control_id(ControlToken::kEos); }
  int32_t n_vocab() const { return static_cast<int32_t>(vocabulary_.size()); }

 private:
  void append_text(std::string_view text, BpeScratch& scratch, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  Bpe bpe_;
  AddedTokenMatcher added_tokens_;
};

}  // namespace ds4
