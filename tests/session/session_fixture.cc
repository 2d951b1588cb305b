#include "session/session_fixture.h"

#include "gguf/reader.h"
#include "text/vocabulary_metadata.h"

namespace ds4::test {

const Tokenizer& mini_tokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    const auto file = GgufFile::open(DS4_SOURCE_DIR "/models/ds4-mini.gguf").take_value();
    return Tokenizer::create(vocabulary_from_metadata(file->metadata()).take_value()).take_value();
  }();
  return *tokenizer;
}

}  // namespace ds4::test
