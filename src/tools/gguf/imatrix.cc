#include <unistd.h>

#include <algorithm>
#include <optional>

#include <fmt/ranges.h>

#include "backends/backend_with_ops.h"
#include "backends/cpu/cpu_backend.h"
#include "base/clock.h"
#include "base/file.h"
#include "engine/engine.h"
#include "model/forward.h"
#include "quant/imatrix_collector.h"
#include "tools/gguf/commands.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;
constexpr std::string_view kRecordMarker = "===== DS4_IMATRIX_PROMPT";
constexpr std::string_view kWhitespace = " \t\r\n";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kWhitespace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kWhitespace) - first + 1);
}

// The texts between lines that begin with the marker; empty when there is no such line.
std::vector<std::string_view> split_records(std::string_view text) {
  std::vector<std::string_view> records;
  std::optional<size_t> record_begin;
  size_t line_begin = 0;
  while (line_begin < text.size()) {
    const size_t line_end = std::min(text.find('\n', line_begin), text.size() - 1) + 1;
    if (text.substr(line_begin).starts_with(kRecordMarker)) {
      if (record_begin) records.push_back(trimmed(text.substr(*record_begin, line_begin - *record_begin)));
      record_begin = line_end;
    }
    line_begin = line_end;
  }
  if (record_begin) records.push_back(trimmed(text.substr(*record_begin)));
  std::erase(records, std::string_view());
  return records;
}

// Sequences of at most n tokens. Rendered prompts are cut off there; running text goes on in the next sequence, each
// of which begins as a document does.
void append_chunks(const Tokenizer& tokenizer, std::string_view text, size_t n,
                   std::vector<std::vector<int32_t>>& chunks) {
  const std::vector<std::string_view> records = split_records(text);
  for (const std::string_view record : records) {
    chunks.push_back(tokenizer.encode_with_special(record));
    chunks.back().resize(std::min(chunks.back().size(), n));
  }
  if (!records.empty()) return;
  const std::vector<int32_t> tokens = tokenizer.encode_text(text);
  const auto bos = tokenizer.control_id(ControlToken::kBos);
  const size_t piece = bos && n > 1 ? n - 1 : n;
  for (size_t first = 0; first < tokens.size(); first += piece) {
    std::vector<int32_t>& chunk = chunks.emplace_back();
    if (piece < n) chunk.push_back(*bos);
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(first);
    chunk.insert(chunk.end(), begin, begin + static_cast<std::ptrdiff_t>(std::min(piece, tokens.size() - first)));
  }
}

void limit_tokens(size_t max_tokens, std::vector<std::vector<int32_t>>& chunks) {
  size_t n_left = max_tokens;
  for (std::vector<int32_t>& chunk : chunks) {
    chunk.resize(std::min(chunk.size(), n_left));
    n_left -= chunk.size();
  }
  std::erase_if(chunks, [](const auto& chunk) { return chunk.empty(); });
}

Result<std::vector<std::vector<int32_t>>> read_chunks(const ImatrixOptions& options, const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> chunks;
  for (const std::string& path : options.text_paths) {
    append_chunks(tokenizer, TRY(read_file(path, kMaxTextBytes)), static_cast<size_t>(options.ctx_tokens), chunks);
  }
  if (options.max_tokens > 0) limit_tokens(static_cast<size_t>(options.max_tokens), chunks);
  const auto n_skipped = static_cast<size_t>(options.skip_chunks);
  if (n_skipped >= chunks.size()) {
    return make_error(ErrorCode::kInvalidArgument, "--text: nothing to run: {} chunks of text, {} to skip",
                      chunks.size(), n_skipped);
  }
  chunks.erase(chunks.begin(), chunks.begin() + options.skip_chunks);
  return chunks;
}

Result<void> save(const ImatrixCollector& collector, int64_t n_chunks, const ImatrixOptions& options) {
  Imatrix imatrix = TRY(collector.statistics());
  imatrix.datasets = options.text_paths;
  imatrix.n_chunks = n_chunks;
  imatrix.chunk_tokens = options.ctx_tokens;
  return options.format == "dat" ? write_legacy_imatrix(imatrix, options.output_path)
                                 : write_imatrix(imatrix, options.output_path);
}

// One line that is overwritten; nothing where nobody watches.
void print_progress(size_t n_done, size_t n_chunks, size_t n_tokens, double seconds) {
  if (isatty(STDERR_FILENO) != 1) return;
  fmt::print(stderr, "\r\x1b[K[{}/{}] {} tokens, {:.0f} tokens/s{}", n_done, n_chunks, n_tokens,
             static_cast<double>(n_tokens) / seconds, n_done == n_chunks ? "\n" : "");
}

Result<void> run_chunk(ForwardPass& forward, KvState& kv, std::span<const int32_t> chunk) {
  kv.clear();
  const auto n_rows = static_cast<size_t>(forward.limits().batch_rows);
  for (size_t first = 0; first < chunk.size(); first += n_rows) {
    // All logits: the vocabulary head is a matrix too.
    const SequenceInput input{&kv, chunk.subspan(first, std::min(n_rows, chunk.size() - first)), LogitsWanted::kAll};
    TRY(forward.run({&input, 1}));
  }
  return {};
}

void print_unused_experts(const Imatrix& imatrix) {
  size_t n_experts = 0;
  std::vector<std::string> unused;
  for (const ImatrixEntry& entry : imatrix.entries) {
    if (!entry.tensor.ends_with(".ffn_gate_exps.weight")) continue;
    n_experts += entry.counts.size();
    const std::string layer = entry.tensor.substr(0, entry.tensor.rfind(".ffn_gate_exps"));
    for (size_t expert = 0; expert < entry.counts.size(); ++expert) {
      if (entry.counts[expert] == 0) unused.push_back(fmt::format("{} expert {}", layer, expert));
    }
  }
  constexpr size_t kMaxListed = 8;
  fmt::print("experts never used: {} of {}", unused.size(), n_experts);
  for (size_t i = 0; i < std::min(unused.size(), kMaxListed); ++i) fmt::print("{} {}", i == 0 ? ":" : ",", unused[i]);
  fmt::print("{}\n", unused.size() > kMaxListed ? ", ..." : "");
}

}  // namespace

Result<void> run_imatrix(const ImatrixOptions& options) {
  const std::unique_ptr<Backend> backend = make_cpu_backend({.threads = options.n_threads});
  std::unique_ptr<GgufFile> file = TRY(GgufFile::open(options.model_path));
  const std::unique_ptr<Tokenizer> tokenizer = TRY(load_tokenizer(*file));
  if (tokenizer == nullptr) {
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: text needs one", options.model_path);
  }
  const std::vector<std::vector<int32_t>> chunks = TRY(read_chunks(options, *tokenizer));
  const std::unique_ptr<Model> model = TRY(Model::load(std::move(file), *backend));
  ImatrixCollector collector(*backend, *model);
  BackendWithOps watched(*backend, collector);
  const std::unique_ptr<KvCache> cache =
      TRY(KvCache::create(*backend, model->hyperparams, {.n_slots = 1, .ctx_tokens = options.ctx_tokens}));
  const int32_t n_rows = std::min(options.step_tokens, options.ctx_tokens);
  const std::unique_ptr<ForwardPass> forward =
      TRY(ForwardPass::create(watched, *model, *cache, {.batch_rows = n_rows, .logits_rows = n_rows}));
  KvState kv = TRY(cache->new_sequence());

  const MonotonicClock clock;
  const int64_t start_us = clock.now_us();
  size_t n_tokens = 0;
  for (size_t i = 0; i < chunks.size(); ++i) {
    TRY(run_chunk(*forward, kv, chunks[i]));
    n_tokens += chunks[i].size();
    print_progress(i + 1, chunks.size(), n_tokens, static_cast<double>(clock.elapsed_us(start_us)) / 1e6);
    const bool is_last = i + 1 == chunks.size();
    if (is_last || (i + 1) % static_cast<size_t>(options.save_every) == 0) {
      TRY(save(collector, static_cast<int64_t>(i + 1), options));
    }
  }
  const Imatrix imatrix = TRY(collector.statistics());
  print_unused_experts(imatrix);
  fmt::print("wrote {}: {} matrices, {} chunks, {} tokens\n", options.output_path, imatrix.entries.size(),
             chunks.size(), n_tokens);
  return {};
}

Result<void> run_imatrix_merge(const ImatrixMergeOptions& options) {
  Imatrix merged;
  for (const std::string& path : options.input_paths) {
    const Imatrix imatrix = TRY(read_imatrix(path));
    if (merged.entries.empty()) merged.chunk_tokens = imatrix.chunk_tokens;
    auto added = merged.merge(imatrix);
    if (!added.ok()) return with_context(added.take_error(), path);
  }
  TRY(options.format == "dat" ? write_legacy_imatrix(merged, options.output_path)
                              : write_imatrix(merged, options.output_path));
  print_unused_experts(merged);
  fmt::print("wrote {}: {} matrices, {} chunks\n", options.output_path, merged.entries.size(), merged.n_chunks);
  return {};
}

}  // namespace ds4
