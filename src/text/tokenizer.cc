#include "text/tokenizer.h"

#include "base/utf8.h"
#include "text/pretokenizer.h"

namespace ds4 {

Result<std::unique_ptr<Tokenizer>> Tokenizer::create(VocabularyData data) {
  return std::make_unique<Tokenizer>(TRY(Vocabulary::create(std::move(data))));
}

Tokenizer::Tokenizer(Vocabulary vocabulary)
    : vocabulary_(std::move(vocabulary)), bpe_(vocabulary_.byte_ids(), vocabulary_.merges()) {
  for (int32_t id = 0; id < n_vocab(); ++id) {
    if (is_added(id)) added_tokens_.add(token_text(id), id);
  }
}

std::vector<int32_t> Tokenizer::encode(std::span<const PromptSegment> segments) const {
  BpeScratch scratch;
  std::vector<int32_t> ids;
  std::string joined;
  for (const PromptSegment& segment : segments) {
    if (!segment.control) {
      joined += segment.text;
    } else if (const std::optional<int32_t> id = control_id(*segment.control)) {
      append_text(joined, scratch, ids);
      joined.clear();
      ids.push_back(*id);
    } else {
      joined += control_token_text(*segment.control);
    }
  }
  append_text(joined, scratch, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_text(std::string_view text) const {
  BpeScratch scratch;
  std::vector<int32_t> ids;
  append_text(text, scratch, ids);
  return ids;
}

std::vector<int32_t> Tokenizer::encode_with_special(std::string_view text) const {
  BpeScratch scratch;
  std::vector<int32_t> ids;
  size_t offset = 0;
  while (const auto match = added_tokens_.find(text, offset)) {
    append_text(text.substr(offset, match->offset - offset), scratch, ids);
    ids.push_back(match->id);
    offset = match->offset + match->n_bytes;
  }
  append_text(text.substr(offset), scratch, ids);
  return ids;
}

void Tokenizer::append_text(std::string_view text, BpeScratch& scratch, std::vector<int32_t>& ids) const {
  std::string replaced;
  if (!is_well_formed_utf8(text)) {
    replaced = replace_ill_formed_utf8(text);
    text = replaced;
  }
  for (Pretokenizer pieces(text); !pieces.done();) bpe_.append_ids(pieces.next(), scratch, ids);
}

}  // namespace ds4
