#include "text/vocabulary.h"

#include <limits>
#include <unordered_map>

#include "base/utf8.h"
#include "text/byte_alphabet.h"

namespace ds4 {
namespace {

// A damaged file can have as many bad merges as merges; the first few tell enough.
constexpr size_t kMaxListed = 5;

std::optional<ControlToken> named_control(std::string_view text) {
  for (const ControlTokenInfo& info : kControlTokens) {
    if (info.text == text) return info.token;
  }
  return std::nullopt;
}

using TokenIndex = std::unordered_map<std::string_view, int32_t>;

int32_t find_token(const TokenIndex& index, std::string_view text) {
  const auto found = index.find(text);
  return found == index.end() ? -1 : found->second;
}

struct MergeText {
  std::string_view left;
  std::string_view right;
};

// The alphabet has no space, so the one space separates; it is never the first character.
MergeText split_merge(std::string_view merge) {
  const size_t space = merge.find(' ', 1);
  if (space == std::string_view::npos) return {};
  return {merge.substr(0, space), merge.substr(space + 1)};
}

}  // namespace

Result<Vocabulary> Vocabulary::create(VocabularyData data) {
  ProblemList problems;
  const size_t n_tokens = data.tokens.size();
  if (n_tokens > static_cast<size_t>(std::numeric_limits<int32_t>::max())) problems.add("{} tokens", n_tokens);
  if (!data.token_types.empty() && data.token_types.size() != n_tokens) {
    problems.add("{} tokens but {} token types", n_tokens, data.token_types.size());
  }
  if (problems.empty()) {
    Vocabulary vocabulary(std::move(data));
    vocabulary.classify_tokens(problems);
    vocabulary.resolve_bytes_and_merges(problems);
    if (problems.empty()) return vocabulary;
  }
  return problems.to_result(ErrorCode::kCorrupt, "vocabulary").take_error();
}

void Vocabulary::classify_tokens(ProblemList& problems) {
  const size_t n_tokens = data_.tokens.size();
  is_added_.resize(n_tokens);
  is_control_.resize(n_tokens);
  bytes_.resize(n_tokens);
  for (size_t id = 0; id < n_tokens; ++id) {
    const std::string& text = data_.tokens[id];
    const auto type = data_.token_types.empty() ? TokenType::kNormal : TokenType{data_.token_types[id]};
    const std::optional<ControlToken> control = named_control(text);
    is_control_[id] = control.has_value() || type == TokenType::kControl;
    is_added_[id] = is_control_[id] || type == TokenType::kUserDefined;
    if (control) {
      std::optional<int32_t>& slot = control_ids_[static_cast<size_t>(*control)];
      if (slot) problems.add("control token {} has two ids, {} and {}", text, *slot, id);
      slot = static_cast<int32_t>(id);
    }
    std::optional<std::string> spelled_bytes = is_added_[id] ? std::nullopt : bytes_of_spelling(text);
    bytes_[id] = spelled_bytes ? *std::move(spelled_bytes) : text;
  }
  for (const ControlTokenInfo& info : kControlTokens) {
    if (info.required && !control_id(info.token)) problems.add("control token {} is missing", info.text);
  }
}

void Vocabulary::resolve_bytes_and_merges(ProblemList& problems) {
  TokenIndex index;
  index.reserve(data_.tokens.size());
  for (size_t id = 0; id < data_.tokens.size(); ++id) {
    if (!is_added_[id]) index.emplace(data_.tokens[id], static_cast<int32_t>(id));
  }
  std::vector<std::string> missing;
  for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
    std::string spelled;
    append_utf8(spelled, byte_to_alphabet(static_cast<uint8_t>(byte)));
    byte_ids_[byte] = find_token(index, spelled);
    if (byte_ids_[byte] < 0) missing.push_back(fmt::format("{:02X}", byte));
  }
  if (!missing.empty()) problems.add("no token for {} single bytes: {}", missing.size(), fmt::join(missing, " "));

  size_t n_bad = 0;
  std::string merged;
  merges_.reserve(data_.merges.size());
  for (size_t rank = 0; rank < data_.merges.size(); ++rank) {
    const auto [left, right] = split_merge(data_.merges[rank]);
    merged.assign(left).append(right);
    const BpeMerge merge{find_token(index, left), find_token(index, right), find_token(index, merged)};
    if (merge.left >= 0 && merge.right >= 0 && merge.merged >= 0) {
      merges_.push_back(merge);
    } else if (++n_bad <= kMaxListed) {
      problems.add("merge {} \"{}\" does not join two normal tokens into a third", rank,
                   replace_ill_formed_utf8(data_.merges[rank]));
    }
  }
  if (n_bad > kMaxListed) problems.add("{} more merges like these", n_bad - kMaxListed);
}

size_t Vocabulary::checked(int32_t id) const {
  CHECK(id >= 0 && static_cast<size_t>(id) < size(), "token {} of a vocabulary of {}", id, size());
  return static_cast<size_t>(id);
}

std::string_view Vocabulary::text(int32_t id) const { return data_.tokens[checked(id)]; }
std::string_view Vocabulary::bytes(int32_t id) const { return bytes_[checked(id)]; }
bool Vocabulary::is_added(int32_t id) const { return is_added_[checked(id)]; }
bool Vocabulary::is_control(int32_t id) const { return is_control_[checked(id)]; }

VocabularyData byte_level_vocabulary(size_t n_tokens) {
  CHECK(n_tokens >= kControlTokens.size() + 256, "{} tokens are too few", n_tokens);
  VocabularyData data;
  const auto add = [&data](std::string text, TokenType type) {
    data.tokens.push_back(std::move(text));
    data.token_types.push_back(static_cast<int32_t>(type));
  };
  for (const ControlTokenInfo& info : kControlTokens) add(std::string(info.text), TokenType::kControl);
  for (int byte = 0; byte < 256; ++byte) {
    add(spell_in_alphabet(std::string(1, static_cast<char>(byte))), TokenType::kNormal);
  }
  while (data.tokens.size() < n_tokens) add(fmt::format("[unused{}]", data.tokens.size()), TokenType::kUnused);
  return data;
}

}  // namespace ds4
