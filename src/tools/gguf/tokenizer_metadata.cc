#include "tools/gguf/tokenizer_metadata.h"

#include "base/file.h"
#include "text/tokenizer_json.h"
#include "text/vocabulary.h"
#include "text/vocabulary_metadata.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxTokenizerBytes = 256 << 20;

}  // namespace

Result<void> store_checkpoint_tokenizer(const std::string& folder, int32_t n_vocab, Metadata& metadata) {
  const std::string path = folder + "/tokenizer.json";
  auto parsed = parse_tokenizer_json(TRY(read_file(path, kMaxTokenizerBytes)));
  if (!parsed.ok()) return with_context(parsed.take_error(), folder);
  VocabularyData data = parsed.take_value();
  if (data.tokens.size() > static_cast<size_t>(n_vocab)) {
    return make_error(ErrorCode::kCorrupt, "{}: {} tokens for a model of {}", path, data.tokens.size(), n_vocab);
  }
  while (data.tokens.size() < static_cast<size_t>(n_vocab)) {
    data.tokens.push_back(fmt::format("[unused{}]", data.tokens.size()));
    data.token_types.push_back(static_cast<int32_t>(TokenType::kUnused));
  }
  auto vocabulary = Vocabulary::create(data);
  if (!vocabulary.ok()) return with_context(vocabulary.take_error(), path);
  store_vocabulary(data, metadata);
  return {};
}

}  // namespace ds4
