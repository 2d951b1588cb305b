#include "engine/simulated_runner.h"

#include <bit>
#include <cstring>

#include "base/rng.h"
#include "ops/kv_access.h"

namespace ds4::test {
namespace {

uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ (b * kGoldenGamma)) + 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// A token that is steered is another one to what comes after it.
uint64_t token_word(int32_t token, const SteeringScales& steering) {
  const uint64_t word = static_cast<uint64_t>(token);
  if (!steering.any()) return word;
  return mix(word, (uint64_t{std::bit_cast<uint32_t>(steering.attn)} << 32) | std::bit_cast<uint32_t>(steering.ffn));
}

uint64_t read_word(const void* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
}
void write_word(void* p, uint64_t word) { std::memcpy(p, &word, sizeof(word)); }

// Rows of a compressor that an answer looks at: the first of every page and the last one.
template <class Read>
uint64_t read_visible(const CompressorKv& compressor, int32_t position, const Read& read) {
  uint64_t hash = 0;
  const int32_t n_rows = visible_rows(position, compressor.ratio);
  const int32_t rows_per_page = kPageTokens / compressor.ratio;
  for (int32_t row = 0; row < n_rows; row += rows_per_page) hash = mix(hash, read(row));
  return n_rows == 0 ? hash : mix(hash, read(n_rows - 1));
}

int32_t first_of_window(const CompressorKv& compressor, int32_t position) {
  const int32_t first = position / compressor.ratio * compressor.ratio - (compressor.n_lanes - 1) * compressor.ratio;
  return std::max(first, 0);
}

template <class Body>
void for_each_compressor(const KvLayout& layout, const Body& body) {
  for (const LayerKv& layer : layout.layers) {
    if (layer.ratio != 0) body(layer.attention);
    if (layer.ratio == 4) body(layer.indexer);
  }
}

}  // namespace

void SimulatedRunner::append_row(const CompressorKv& compressor, int32_t slot, int32_t position, uint64_t hash) {
  const KvMemory& memory = cache_.memory();
  std::byte* frontier = frontier_of(memory, slot);
  for (const uint64_t ring : {compressor.kv_ring_bytes_offset, compressor.score_ring_bytes_offset})
    write_word(ring_row(frontier, ring, compressor, position), hash + ring);
  if ((position + 1) % compressor.ratio != 0) return;
  uint64_t row = 0;
  for (int32_t p = first_of_window(compressor, position); p <= position; ++p) {
    for (const uint64_t ring : {compressor.kv_ring_bytes_offset, compressor.score_ring_bytes_offset})
      row = mix(row, read_word(ring_row(frontier, ring, compressor, p)) - ring);
  }
  write_word(compressed_row(memory, compressor, slot, position / compressor.ratio), row);
}

uint64_t SimulatedRunner::read_rows(const CompressorKv& compressor, int32_t slot, int32_t position) const {
  return read_visible(compressor, position,
                      [&](int32_t row) { return read_word(compressed_row(cache_.memory(), compressor, slot, row)); });
}

// Writes a token's rows and returns what its logits depend on.
uint64_t SimulatedRunner::append(KvState& kv, int32_t position, uint64_t word) {
  const KvLayout& layout = cache_.layout();
  std::byte* frontier = frontier_of(cache_.memory(), kv.slot());
  uint64_t answer = 0;
  uint64_t hash = 0;
  for (const LayerKv& layer : layout.layers) {
    const auto row = [&](int32_t p) {
      return frontier + layer.window_bytes_offset + (p % layer.window) * layer.window_format.row_bytes;
    };
    // The oldest row of the window and the last one.
    const uint64_t oldest = position >= layer.window ? read_word(row(position)) : 0;
    hash = mix(position == 0 ? 0 : read_word(row(position - 1)), word);
    write_word(row(position), hash);
    answer = mix(answer, mix(hash, oldest));
  }
  for_each_compressor(layout, [&](const CompressorKv& c) {
    append_row(c, kv.slot(), position, hash);
    answer = mix(answer, read_rows(c, kv.slot(), position));
  });
  return answer;
}

Result<std::span<const float>> SimulatedRunner::run(std::span<const SequenceInput> inputs) {
  logits_.clear();
  for (const SequenceInput& input : inputs) {
    const auto n_tokens = static_cast<int32_t>(input.tokens.size());
    TRY(input.kv->reserve(n_tokens));
    uint64_t answer = 0;
    for (int32_t i = 0; i < n_tokens; ++i)
      answer =
          append(*input.kv, input.kv->n_tokens() + i, token_word(input.tokens[static_cast<size_t>(i)], input.steering));
    input.kv->advance(n_tokens);
    n_tokens_run_ += static_cast<uint64_t>(n_tokens);
    if (input.logits == LogitsWanted::kNone) continue;
    logits_.resize(logits_.size() + static_cast<size_t>(n_vocab_), 0.0f);
    logits_[logits_.size() - static_cast<size_t>(n_vocab_) + answer % static_cast<uint64_t>(n_vocab_)] = 1.0f;
  }
  return std::span<const float>(logits_);
}

std::vector<int32_t> simulated_answer(const KvLayout& layout, std::span<const int32_t> prompt, int32_t n_tokens,
                                      int32_t n_vocab, const SimulatedSteering& steering) {
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  std::vector<uint64_t> hashes;
  std::vector<std::vector<uint64_t>> rows;
  for_each_compressor(layout, [&](const CompressorKv&) { rows.emplace_back(); });
  while (tokens.size() < prompt.size() + static_cast<size_t>(n_tokens)) {
    uint64_t answer = 0;
    while (hashes.size() < tokens.size()) {
      const auto position = static_cast<int32_t>(hashes.size());
      const SteeringScales& scales = hashes.size() < prompt.size() ? steering.prompt : steering.output;
      hashes.push_back(mix(hashes.empty() ? 0 : hashes.back(), token_word(tokens[hashes.size()], scales)));
      answer = 0;
      for (const LayerKv& layer : layout.layers) {
        const uint64_t oldest = position >= layer.window ? hashes[static_cast<size_t>(position - layer.window)] : 0;
        answer = mix(answer, mix(hashes.back(), oldest));
      }
      size_t i = 0;
      for_each_compressor(layout, [&](const CompressorKv& c) {
        std::vector<uint64_t>& own = rows[i++];
        if ((position + 1) % c.ratio == 0) {
          uint64_t row = 0;
          for (int32_t p = first_of_window(c, position); p <= position; ++p) {
            for (int ring = 0; ring < 2; ++ring) row = mix(row, hashes[static_cast<size_t>(p)]);
          }
          own.push_back(row);
        }
        answer = mix(answer, read_visible(c, position, [&](int32_t row) { return own[static_cast<size_t>(row)]; }));
      });
    }
    tokens.push_back(static_cast<int32_t>(answer % static_cast<uint64_t>(n_vocab)));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

}  // namespace ds4::test
