#include "tools/cli/dump.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/utf8.h"
#include "chat/python_json.h"
#include "engine/sampler.h"

namespace ds4 {
namespace {

constexpr uint64_t kMaxArrayFileBytes = 64 << 20;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// Bytes that are no text appear as the character of their value.
std::string text_as_json(std::string_view bytes) {
  std::string json;
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Character character = decode_utf8(bytes, i);
    const std::string_view part = bytes.substr(i, character.n_bytes);
    if (character.status == Utf8Status::kWellFormed)
      append_json_escaped(part, json);
    else
      for (const char byte : part) json += fmt::format("\\u00{:02x}", static_cast<unsigned char>(byte));
    i += character.n_bytes;
  }
  return json;
}

std::string token_as_json(const Tokenizer& tokenizer, int32_t id) {
  const std::string_view bytes = tokenizer.token_bytes(id);
  std::vector<int> values;
  for (const char byte : bytes) values.push_back(static_cast<unsigned char>(byte));
  return fmt::format(R"({{"id":{},"text":"{}","bytes":[{}]}})", id, text_as_json(bytes), fmt::join(values, ","));
}

std::string step_as_json(const Tokenizer& tokenizer, std::span<const float> logits, int32_t step, int32_t selected,
                         int32_t top_k) {
  const double log_sum = log_sum_exp(logits);
  std::string top;
  for (const RankedToken& ranked : top_tokens(logits, top_k)) {
    if (!top.empty()) top += ',';
    top += fmt::format(R"({{"token":{},"logit":{:.9g},"logprob":{:.9g}}})", token_as_json(tokenizer, ranked.id),
                       ranked.logit, log_probability(ranked.logit, log_sum));
  }
  return fmt::format(R"({{"step":{},"selected":{},"top_logprobs":[{}]}})", step, token_as_json(tokenizer, selected),
                     top);
}

// Appends the tokens to the sequence in steps; the logits of the last one.
Result<std::span<const float>> run_tokens(Engine& engine, KvState& kv, std::span<const int32_t> tokens,
                                          const SteeringScales& steering) {
  const auto most = static_cast<size_t>(engine.forward().limits().batch_rows);
  while (tokens.size() > most) {
    const SequenceInput input{&kv, tokens.first(most), LogitsWanted::kNone, steering};
    TRY(engine.forward().run({&input, 1}));
    tokens = tokens.subspan(most);
  }
  const SequenceInput input{&kv, tokens, LogitsWanted::kLast, steering};
  return engine.forward().run({&input, 1});
}

Result<std::vector<int32_t>> read_integer_array(const std::string& path) {
  const std::string text = TRY(read_file(path, kMaxArrayFileBytes));
  Result<JsonValue> json = parse_json(text, JsonDialect::kStandard);
  if (!json.ok()) return with_context(json.take_error(), path);
  if (json.value().kind != JsonValue::Kind::kArray) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected a JSON array of integers", path);
  }
  std::vector<int32_t> integers;
  for (const JsonValue& item : json.value().items) {
    int32_t integer = 0;
    const char* end = item.text.data() + item.text.size();
    const auto [parsed, failed] = std::from_chars(item.text.data(), end, integer);
    if (item.kind != JsonValue::Kind::kScalar || failed != std::errc() || parsed != end) {
      return make_error(ErrorCode::kInvalidArgument, "{}: element {}: expected an integer, found {}", path,
                        integers.size(), dump_json(item));
    }
    integers.push_back(integer);
  }
  return integers;
}

Result<std::vector<int32_t>> read_positions(const std::string& path, int32_t n_tokens) {
  std::vector<int32_t> positions;
  if (path.empty()) {
    for (int32_t position = 0; position < n_tokens; ++position) positions.push_back(position);
    return positions;
  }
  positions = TRY(read_integer_array(path));
  for (size_t i = 0; i < positions.size(); ++i) {
    const int32_t least = i == 0 ? 0 : positions[i - 1] + 1;
    if (positions[i] < least || positions[i] >= n_tokens) {
      return make_error(ErrorCode::kInvalidArgument, "{}: element {}: expected ascending positions below {}, found {}",
                        path, i, n_tokens, positions[i]);
    }
  }
  return positions;
}

}  // namespace

Result<void> dump_tokens(const std::string& model_path, std::string_view text) {
  const std::unique_ptr<GgufFile> file = TRY(GgufFile::open(model_path));
  const std::unique_ptr<Tokenizer> tokenizer = TRY(load_tokenizer(*file));
  if (tokenizer == nullptr) return make_error(ErrorCode::kUnsupported, "{} has no vocabulary", model_path);
  const std::vector<int32_t> ids = tokenizer->encode_with_special(text);
  fmt::print("[{}]\n", fmt::join(ids, ", "));
  for (const int32_t id : ids) fmt::print("{:>6}  {}\n", id, tokenizer->token_text(id));
  return {};
}

Result<void> dump_logprobs(Engine& engine, std::span<const int32_t> prompt_tokens, const LogprobsDump& dump) {
  CHECK(engine.tokenizer() != nullptr, "a prompt was encoded without a vocabulary");
  const Tokenizer& tokenizer = *engine.tokenizer();
  if (engine.steering().scales.any() && engine.steering().policy == SteeringPolicy::kFinalAnswer) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "--dump-logprobs does not look for the final answer: --dir-steering-policy always, decoding or off");
  }
  AtomicFileWriter file = TRY(AtomicFileWriter::create(dump.output_path));
  TRY(file.append(bytes_of(fmt::format(R"({{"source":"ds4","prompt_tokens":{},"ctx":{},"top_k":{},"steps":[)",
                                       prompt_tokens.size(), engine.ctx_tokens(), dump.top_k))));
  KvState kv = TRY(engine.kv_cache().new_sequence());
  const auto n_free = static_cast<int64_t>(engine.ctx_tokens()) - static_cast<int64_t>(prompt_tokens.size());
  const auto n_steps = static_cast<int32_t>(std::min<int64_t>(dump.max_tokens, n_free));
  int32_t token = 0;
  std::span<const int32_t> pending = prompt_tokens;
  SteeringScales steering = engine.steering().for_prompt();
  for (int32_t step = 0; step < n_steps; ++step) {
    std::span<const float> logits = TRY(run_tokens(engine, kv, pending, steering));
    steering = engine.steering().for_output();
    logits = logits.first(static_cast<size_t>(tokenizer.n_vocab()));
    const std::optional<int32_t> best = greedy_token(logits);
    if (!best) return make_error(ErrorCode::kInternal, "step {}: no logit is finite", step);
    token = *best;
    pending = {&token, 1};
    TRY(file.append(bytes_of(step == 0 ? "\n" : ",\n")));
    TRY(file.append(bytes_of(step_as_json(tokenizer, logits, step, token, dump.top_k))));
    if (token == tokenizer.eos_id()) break;
  }
  TRY(file.append(bytes_of("\n]}\n")));
  return file.commit();
}

Result<void> dump_logits(EngineOptions options, const LogitsDump& dump) {
  const std::vector<int32_t> ids = TRY(read_integer_array(dump.token_ids_path));
  const auto n_tokens = static_cast<int32_t>(ids.size());
  if (ids.empty()) return make_error(ErrorCode::kInvalidArgument, "{}: no tokens", dump.token_ids_path);
  const std::vector<int32_t> positions = TRY(read_positions(dump.positions_path, n_tokens));
  const int32_t chunk = std::min(options.prefill_chunk_tokens, n_tokens);
  if (options.ctx_tokens == 0) options.ctx_tokens = n_tokens;
  options.n_slots = 1;
  options.logits_rows = chunk;
  const std::unique_ptr<Engine> engine = TRY(Engine::load(options));
  const auto n_vocab = static_cast<size_t>(engine->hyperparams().n_vocab);

  KvState kv = TRY(engine->kv_cache().new_sequence());
  AtomicFileWriter file = TRY(AtomicFileWriter::create(dump.output_path));
  auto wanted = positions.begin();
  for (int32_t first = 0; first < n_tokens; first += chunk) {
    const int32_t n = std::min(chunk, n_tokens - first);
    const bool wants_any = wanted != positions.end() && *wanted < first + n;
    const SequenceInput input{&kv, std::span(ids).subspan(static_cast<size_t>(first), static_cast<size_t>(n)),
                              wants_any ? LogitsWanted::kAll : LogitsWanted::kNone, engine->steering().for_prompt()};
    const std::span<const float> logits = TRY(engine->forward().run({&input, 1}));
    for (; wanted != positions.end() && *wanted < first + n; ++wanted) {
      TRY(file.append(std::as_bytes(logits.subspan(static_cast<size_t>(*wanted - first) * n_vocab, n_vocab))));
    }
  }
  return file.commit();
}

}  // namespace ds4
