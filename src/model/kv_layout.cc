#include "model/kv_layout.h"

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

}  // namespace

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

}  // namespace ds4
