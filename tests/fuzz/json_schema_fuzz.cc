#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "chat/python_json.h"
#include "constrain/json_schema.h"
#include "constrain/matcher_store.h"

// Any schema is an error with a message, or a grammar that some text gets through.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto schema = ds4::parse_json(text, ds4::JsonDialect::kStandard);
  if (!schema.ok()) return 0;
  ds4::ByteGrammar grammar;
  ds4::JsonGrammar json(grammar);
  const ds4::GrammarState start = grammar.add_state();
  const ds4::GrammarState end = grammar.add_state();
  grammar.set_end(end);
  const auto built = ds4::JsonSchemaBuilder(schema.value(), json).add_root(start, end, ds4::ValueForm::kJson);
  CHECK(built.ok() || !built.error().message.empty(), "an error without a message");
  if (!built.ok() || grammar.is_too_large()) return 0;
  grammar.prune();
  if (!grammar.can_end(start)) return 0;
  ds4::MatcherStore store(grammar);
  int32_t at = store.start(start);
  // Straight on, the data deciding between the ways: it never gets stuck.
  for (size_t n = 0; n < 200 && !store.can_end(at); ++n) {
    const uint8_t wish = size > 0 ? data[n % size] : 0;
    int32_t next = ds4::MatcherStore::kDead;
    for (int i = 0; i < 256 && next == ds4::MatcherStore::kDead; ++i)
      next = store.next(at, static_cast<uint8_t>(wish + i));
    CHECK(next != ds4::MatcherStore::kDead, "stuck after {} bytes of a text", n);
    at = next;
  }
  return 0;
}
