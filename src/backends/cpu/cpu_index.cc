// The indexer's choice of compressed rows. Rows of the batch are taken in waves whose scores fit in memory: threads
// take neighbouring rows against a stretch of keys, which they unpack once for these rows, then choose row by row.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/row_kernels.h"
#include "ops/kv_access.h"

namespace ds4 {

namespace {

constexpr int32_t kBlockRows = 8;
constexpr int64_t kMaxChunkKeys = 512;  // that a thread takes at once
constexpr int64_t kMaxScores = 8 << 20;

template <class T>
void grow(std::vector<T>& values, int64_t size) {
  values.resize(std::max(values.size(), static_cast<size_t>(size)));
}

// Greater floats have greater ranks; both zeros have the same.
uint32_t rank_of(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The k-th largest rank, and how many of the k have that rank: digits from the highest, counting.
struct Threshold {
  uint32_t rank;
  int32_t n_equal;
};
Threshold find_threshold(const float* scores, int32_t n, int32_t k) {
  Threshold found{0, k};
  uint32_t known = 0;  // bits of the rank that are decided
  for (const int shift : {21, 10, 0}) {
    std::array<int32_t, 2048> counts{};
    const uint32_t digit_mask = shift == 0 ? 1023 : 2047;
    for (int32_t i = 0; i < n; ++i) {
      const uint32_t rank = rank_of(scores[i]);
      counts[rank >> shift & digit_mask] += (rank & known) == found.rank ? 1 : 0;
    }
    uint32_t digit = digit_mask;
    for (; counts[digit] < found.n_equal; --digit) found.n_equal -= counts[digit];
    found.rank |= digit << shift;
    known |= digit_mask << shift;
  }
  return found;
}

// The k best of n scores, ties to the lower index, ascending; returns how many.
int32_t select_top(const float* scores, int32_t n, int32_t k, int32_t* out) {
  if (n <= k) {
    std::iota(out, out + n, 0);
    return n;
  }
  Threshold threshold = find_threshold(scores, n, k);
  int32_t n_found = 0;
  for (int32_t i = 0; i < n; ++i) {
    const uint32_t rank = rank_of(scores[i]);
    if (rank > threshold.rank || (rank == threshold.rank && threshold.n_equal-- > 0)) out[n_found++] = i;
  }
  return k;
}

// Rows of the batch from first_row on, whose scores are in memory together.
class Wave {
 public:
  Wave(const cpu::Kernels& kernels, const IndexSelectArgs& args, int64_t first_row, int64_t stride)
      : kernels_(kernels), args_(args), first_row_(first_row), stride_(stride) {}

  // The memory of a wave of n rows.
  template <class Scratch>
  void use(Scratch& scratch, int64_t n) {
    grow(scratch.codes, n * n_heads_ * width_);
    grow(scratch.scales, n * n_groups_);
    grow(scratch.offsets, n * n_groups_);
    grow(scratch.weights, n * n_heads_);
    grow(scratch.has_codes, n);
    grow(scratch.scores, n * stride_);
    codes_ = scratch.codes.data();
    scales_ = scratch.scales.data();
    offsets_ = scratch.offsets.data();
    weights_ = scratch.weights.data();
    has_codes_ = scratch.has_codes.data();
    scores_ = scratch.scores.data();
  }
  const float* scores(int64_t row) const { return scores_ + (row - first_row_) * stride_; }

  void prepare(int64_t row) const {
    const int64_t i = row - first_row_;
    const float scale = 1.0f / std::sqrt(static_cast<float>(width_ * n_heads_));
    for (int64_t h = 0; h < n_heads_; ++h) weights_[i * n_heads_ + h] = args_.weights.f32()[row * n_heads_ + h] * scale;
    const bool may_have =
        args_.indexer.format.encoding == KvEncoding::kFp4 && width_ <= cpu::kMaxIndexGroups * kFp4Group;
    has_codes_[i] = may_have && kernels_.rows->index_codes(query(row), n_heads_, width_, codes_ + i * n_heads_ * width_,
                                                           scales_ + i * n_groups_, offsets_ + i * n_groups_);
  }

  // n neighbouring rows against keys of one page, of which the first is row first_key of the sequence. key: [width]
  void score(int64_t row, int64_t n, const cpu::IndexKeys& keys, int64_t first_key, float* key) const {
    const int64_t i = row - first_row_;
    float* scores = scores_ + i * stride_ + first_key;
    if (std::all_of(has_codes_ + i, has_codes_ + i + n, [](uint8_t has) { return has != 0; })) {
      const cpu::IndexQueries queries{.n_queries = n,
                                      .n_heads = n_heads_,
                                      .width = width_,
                                      .codes = codes_ + i * n_heads_ * width_,
                                      .scales = scales_ + i * n_groups_,
                                      .offsets = offsets_ + i * n_groups_,
                                      .weights = weights_ + i * n_heads_};
      kernels_.rows->index_scores(queries, keys, scores, stride_);
    } else if (n > 1) {
      for (int64_t q = 0; q < n; ++q) score(row + q, 1, keys, first_key, key);
    } else {
      score_values(row, keys, scores, key);
    }
  }

 private:
  const float* query(int64_t row) const { return args_.query.f32() + row * n_heads_ * width_; }

  // Queries of any values, or keys that are not rounded.
  void score_values(int64_t row, const cpu::IndexKeys& keys, float* scores, float* key) const {
    for (int64_t c = 0; c < keys.n_rows; ++c) {
      kernels_.rows->unpack_row(keys.rows + c * keys.row_bytes, args_.indexer.format, key);
      float score = 0.0f;
      for (int64_t h = 0; h < n_heads_; ++h) {
        score += std::max(0.0f, kernels_.dot(query(row) + h * width_, key, width_)) *
                 weights_[(row - first_row_) * n_heads_ + h];
      }
      scores[c] = score;
    }
  }

  const cpu::Kernels& kernels_;
  const IndexSelectArgs& args_;
  int64_t first_row_;
  int64_t stride_;
  int64_t n_heads_ = args_.query.shape[1];
  int64_t width_ = args_.query.shape[2];
  int64_t n_groups_ = n_heads_ * ((width_ + kFp4Group - 1) / kFp4Group);
  int8_t* codes_ = nullptr;
  float* scales_ = nullptr;
  float* offsets_ = nullptr;
  float* weights_ = nullptr;
  uint8_t* has_codes_ = nullptr;
  float* scores_ = nullptr;
};

}  // namespace

void CpuOps::index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                          const TensorView& selected, const TensorView& n_selected) {
  int64_t stride = 0;
  for (const SequenceSpan& span : batch.spans)
    stride = std::max<int64_t>(stride, visible_rows(span.first_position + span.n_rows - 1, args.indexer.ratio));
  cut_into_blocks(batch, batch.n_rows >= 4 * pool_.n_threads() ? kBlockRows : 1);
  const auto width = static_cast<size_t>(args.query.shape[2]);
  thread_scratch_.resize(std::max(thread_scratch_.size(), width * static_cast<size_t>(pool_.n_threads())));
  const auto wave_blocks =
      static_cast<size_t>(std::max<int64_t>(1, kMaxScores / (kBlockRows * std::max<int64_t>(stride, 1))));
  for (size_t done = 0; done < blocks_.size(); done += wave_blocks) {
    const std::span blocks = std::span(blocks_).subspan(done, std::min(wave_blocks, blocks_.size() - done));
    const auto first_row_of = [](const RowBlock& block) { return int64_t{block.span->first_row} + block.first; };
    const int64_t first_row = first_row_of(blocks.front());
    const int64_t n_rows = first_row_of(blocks.back()) + blocks.back().n_rows - first_row;
    Wave wave(kernels_, args, first_row, stride);
    wave.use(index_, n_rows);
    if (stride > args.top_k) {
      pool_.parallel_for(n_rows, 4, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) wave.prepare(first_row + i);
      });
    }
    // Fewer keys a task where there are few rows, in whole pages.
    const int32_t page_rows = kPageTokens / args.indexer.ratio;
    const int64_t share = stride * std::ssize(blocks) / (4 * pool_.n_threads());
    const int64_t chunk_keys = std::clamp<int64_t>(share / page_rows * page_rows, page_rows, kMaxChunkKeys);
    const int64_t n_chunks = (stride + chunk_keys - 1) / chunk_keys;
    pool_.parallel_for(
        stride > args.top_k ? std::ssize(blocks) * n_chunks : 0, 1, [&](int64_t task, int64_t, int thread) {
          const RowBlock& block = blocks[static_cast<size_t>(task / n_chunks)];
          const int32_t n_visible =
              visible_rows(block.span->first_position + block.first + block.n_rows - 1, args.indexer.ratio);
          if (n_visible <= args.top_k) return;
          float* key = thread_scratch_.data() + static_cast<size_t>(thread) * width;
          const auto first_key = static_cast<int32_t>(task % n_chunks * chunk_keys);
          const auto last_key = static_cast<int32_t>(std::min<int64_t>(first_key + chunk_keys, n_visible));
          for (int32_t c = first_key; c < last_key; c += page_rows) {
            const cpu::IndexKeys keys{compressed_row(kv, args.indexer, block.span->slot, c),
                                      args.indexer.format.row_bytes, std::min(page_rows, last_key - c)};
            wave.score(first_row_of(block), block.n_rows, keys, c, key);
          }
        });
    pool_.parallel_for(std::ssize(blocks), 1, [&](int64_t first, int64_t) {
      const RowBlock& block = blocks[static_cast<size_t>(first)];
      for (int32_t i = 0; i < block.n_rows; ++i) {
        const int64_t row = first_row_of(block) + i;
        const int32_t n = visible_rows(block.span->first_position + block.first + i, args.indexer.ratio);
        n_selected.i32()[row] = select_top(wave.scores(row), n, args.top_k, selected.i32() + row * args.top_k);
      }
    });
  }
}

}  // namespace ds4
