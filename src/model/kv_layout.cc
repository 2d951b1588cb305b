#include "model/kv_layout.h"

#include <algorithm>

namespace ds4 {

namespace {

int32_t round_up(int32_t value, int32_t multiple) { return (value + multiple - 1) / multiple * multiple; }

KvRowFormat row_format(KvEncoding encoding, int32_t width, int32_t n_rot) {
  KvRowFormat format{encoding, width, n_rot, 0};
  switch (encoding) {
    case KvEncoding::kF32: format.row_bytes = width * 4; break;
    case KvEncoding::kFp8: {
      const int32_t n_codes = width - n_rot;
      format.row_bytes = n_codes + (n_codes + kFp8Group - 1) / kFp8Group + 2 * n_rot;
      break;
    }
    case KvEncoding::kFp4: format.row_bytes = width / 2 + width / kFp4Group; break;
  }
  format.row_bytes = round_up(format.row_bytes, 4);
  return format;
}

// Hands out consecutive ranges of the frontier or of a page, each aligned for vector loads.
struct Ranges {
  uint64_t end_bytes = 0;
  uint64_t take(uint64_t bytes) {
    const uint64_t offset = end_bytes;
    end_bytes = (end_bytes + bytes + 63) / 64 * 64;
    return offset;
  }
};

CompressorKv place_compressor(int32_t ratio, const KvRowFormat& format, Ranges& frontier, Ranges& page) {
  CompressorKv compressor;
  compressor.ratio = ratio;
  compressor.n_lanes = ratio == 4 ? 2 : 1;
  compressor.ring_rows = compressor.n_lanes * ratio;
  compressor.format = format;
  const uint64_t ring_bytes = uint64_t{4} * compressor.ring_rows * compressor.n_lanes * format.width;
  compressor.kv_ring_bytes_offset = frontier.take(ring_bytes);
  compressor.score_ring_bytes_offset = frontier.take(ring_bytes);
  compressor.page_bytes_offset = page.take(static_cast<uint64_t>(kPageTokens / ratio) * format.row_bytes);
  return compressor;
}

// Rows [first, last) of a ring, by position: at most two runs.
void add_ring_rows(uint64_t ring_offset, uint64_t row_bytes, int32_t ring_rows, int32_t first, int32_t last,
                   std::vector<ByteRange>& ranges) {
  const int32_t n_rows = std::min(last - first, ring_rows);
  if (n_rows <= 0) return;
  const int32_t start = (last - n_rows) % ring_rows;
  const int32_t n_wrapped = std::max(0, start + n_rows - ring_rows);
  const auto add = [&](int32_t row, int32_t n) {
    if (n > 0)
      ranges.push_back({ring_offset + static_cast<uint64_t>(row) * row_bytes, static_cast<uint64_t>(n) * row_bytes});
  };
  add(0, n_wrapped);
  add(start, n_rows - n_wrapped);
}

void add_open_windows(const CompressorKv& compressor, int32_t n_tokens, std::vector<ByteRange>& ranges) {
  const int32_t open = n_tokens / compressor.ratio * compressor.ratio;
  const int32_t first = std::max(0, open - (compressor.n_lanes - 1) * compressor.ratio);
  const uint64_t row_bytes = uint64_t{4} * compressor.n_lanes * compressor.format.width;
  for (const uint64_t ring : {compressor.kv_ring_bytes_offset, compressor.score_ring_bytes_offset})
    add_ring_rows(ring, row_bytes, compressor.ring_rows, first, n_tokens, ranges);
}

}  // namespace

uint64_t total_bytes(std::span<const ByteRange> ranges) {
  uint64_t total = 0;
  for (const ByteRange& range : ranges) total += range.size_bytes;
  return total;
}

KvLayout KvLayout::compute(const Hyperparams& h, NumericProfile profile) {
  const bool exact = profile == NumericProfile::kExact;
  const KvRowFormat row = row_format(exact ? KvEncoding::kF32 : KvEncoding::kFp8, h.head_dim, h.n_rot);
  const KvRowFormat index_row = row_format(exact ? KvEncoding::kF32 : KvEncoding::kFp4, h.index_head_dim, h.n_rot);
  KvLayout layout;
  Ranges frontier;
  Ranges page;
  for (int32_t il = 0; il < h.n_layer; ++il) {
    LayerKv layer;
    layer.ratio = h.ratio(il);
    layer.window = h.window;
    layer.window_format = row;
    layer.window_bytes_offset = frontier.take(static_cast<uint64_t>(h.window) * row.row_bytes);
    if (layer.ratio != 0) layer.attention = place_compressor(layer.ratio, row, frontier, page);
    if (layer.ratio == 4) layer.indexer = place_compressor(layer.ratio, index_row, frontier, page);
    layout.layers.push_back(layer);
  }
  layout.frontier_bytes = frontier.end_bytes;
  layout.page_bytes = page.end_bytes;
  return layout;
}

std::vector<ByteRange> KvLayout::live_frontier(int32_t n_tokens) const {
  std::vector<ByteRange> ranges;
  for (const LayerKv& layer : layers) {
    add_ring_rows(layer.window_bytes_offset, layer.window_format.row_bytes, layer.window,
                  std::max(0, n_tokens - layer.window), n_tokens, ranges);
    if (layer.ratio != 0) add_open_windows(layer.attention, n_tokens, ranges);
    if (layer.ratio == 4) add_open_windows(layer.indexer, n_tokens, ranges);
  }
  return ranges;
}

uint64_t KvLayout::live_bytes(int32_t n_tokens) const {
  return total_bytes(live_frontier(n_tokens)) + total_bytes(live_page(n_tokens % kPageTokens));
}

std::vector<ByteRange> KvLayout::live_page(int32_t n_tokens) const {
  if (n_tokens == kPageTokens) return {{0, page_bytes}};
  std::vector<ByteRange> ranges;
  const auto add = [&](const CompressorKv& compressor) {
    const auto n_rows = static_cast<uint64_t>(n_tokens / compressor.ratio);
    if (n_rows > 0) ranges.push_back({compressor.page_bytes_offset, n_rows * compressor.format.row_bytes});
  };
  for (const LayerKv& layer : layers) {
    if (layer.ratio != 0) add(layer.attention);
    if (layer.ratio == 4) add(layer.indexer);
  }
  return ranges;
}

}  // namespace ds4
