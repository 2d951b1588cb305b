#pragma once

// The token table of a byte-level BPE tokenizer, checked as a whole: every byte has a token, every merge joins two
// tokens into a third, and the control tokens that a DeepSeek-V4 chat needs are there. VocabularyData is the raw form
// that files are read into (GGUF metadata here, tokenizer.json in text/tokenizer_json.h) and that GGUF files store.
// A vocabulary may have any size and order: control tokens are found by their text.
// A Vocabulary is immutable; any thread.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/control_tokens.h"
#include "base/error.h"
#include "text/bpe.h"

namespace ds4 {

// Values of tokenizer.ggml.token_type.
enum class TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct VocabularyData {
  std::vector<std::string> tokens;   // normal tokens spelled in the byte alphabet, added tokens literally
  std::vector<std::string> merges;   // "left right" in rank order
  std::vector<int32_t> token_types;  // TokenType; empty means all normal
};

class Vocabulary {
 public:
  // All problems are reported at once, required control tokens by name.
  static Result<Vocabulary> create(VocabularyData data);

  size_t size() const { return data_.tokens.size(); }
  // As stored. Precondition for this and the next three: 0 <= id < size().
  std::string_view text(int32_t id) const;
  std::string_view bytes(int32_t id) const;
  // Added tokens (control and user-defined) are matched literally and never arise from merges.
  bool is_added(int32_t id) const;
  // Added tokens of type control, and those that are named in base/control_tokens.h.
  bool is_control(int32_t id) const;
  std::optional<int32_t> control_id(ControlToken token) const { return control_ids_[static_cast<size_t>(token)]; }

  const std::array<int32_t, 256>& byte_ids() const { return byte_ids_; }
  const std::vector<BpeMerge>& merges() const { return merges_; }

 private:
  explicit Vocabulary(VocabularyData data) : data_(std::move(data)) {}
  void classify_tokens(ProblemList& problems);
  void resolve_bytes_and_merges(ProblemList& problems);
  size_t checked(int32_t id) const;

  VocabularyData data_;
  std::vector<std::string> bytes_;
  std::vector<bool> is_added_;
  std::vector<bool> is_control_;
  std::array<std::optional<int32_t>, kControlTokens.size()> control_ids_;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<BpeMerge> merges_;
};

// A vocabulary without merges, for synthetic models and tests: the control tokens, the 256 bytes, and unused tokens up
// to n_tokens. Precondition: n_tokens >= 256 + the number of control tokens.
VocabularyData byte_level_vocabulary(size_t n_tokens);

}  // namespace ds4
