#pragma once

// Arguments of kernels on KV memory, from the views of ops.h.

#include <cmath>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/kernels/kernels.h"
#include "ops/ops.h"

namespace ds4::cuda {

inline KvFormat kv_format(const KvRowFormat& format) {
  return {static_cast<int32_t>(format.encoding), format.width, format.n_rot, format.row_bytes};
}

inline Compressor compressor(const CompressorKv& kv) {
  return {kv.ratio,
          kv.n_lanes,
          kv.ring_rows,
          kv_format(kv.format),
          kv.kv_ring_bytes_offset,
          kv.score_ring_bytes_offset,
          kv.page_bytes_offset};
}

inline KvPages kv_pages(const KvMemory& kv) {
  return {device_data<uint8_t>(kv.frontiers),  kv.frontiers.shape[1], device_data<uint8_t>(kv.pages), kv.pages.shape[1],
          device_data<int32_t>(kv.page_table), kv.page_table.shape[1]};
}

inline Window window(const TensorView& rows, const LayerKv& layer) {
  return {device_data<uint8_t>(rows), kv_format(layer.window_format), layer.window, layer.window_bytes_offset};
}

inline float hadamard_norm(int32_t width) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))); }

inline Compress compress_arguments(const CompressArgs& args, const BatchView& batch, const KvMemory& kv,
                                   const RowPlace* places) {
  const TensorView& frequencies = args.rope.inverse_frequencies;
  Compress compress;
  compress.kv = device_data<float>(args.kv);
  compress.score = device_data<float>(args.score);
  compress.ape = device_data<float>(args.ape);
  compress.norm = device_data<float>(args.norm);
  compress.frequencies = device_data<float>(frequencies);
  compress.rms_epsilon = args.rms_epsilon;
  compress.hadamard_norm = hadamard_norm(args.compressor.format.width);
  compress.n_frequencies = static_cast<int32_t>(frequencies.elements());
  compress.compressor = compressor(args.compressor);
  compress.places = places;
  compress.n_rows = batch.n_rows;
  compress.memory = kv_pages(kv);
  return compress;
}

inline Attention attention_arguments(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv,
                                     const RowPlace* places, const TensorView& out) {
  Attention attention;
  attention.query = device_data<float>(args.query);
  attention.sinks = device_data<float>(args.sinks);
  attention.window = window(args.window_rows, args.layer);
  attention.ratio = args.layer.ratio;
  attention.compressor = compressor(args.layer.attention);
  attention.selected = device_data<int32_t>(args.selected);
  attention.n_selected = device_data<int32_t>(args.n_selected);
  attention.top_k = args.selected ? static_cast<int32_t>(args.selected.shape[1]) : 0;
  attention.places = places;
  attention.n_rows = batch.n_rows;
  attention.n_heads = static_cast<int32_t>(args.query.shape[1]);
  attention.out = device_data<float>(out);
  attention.memory = kv_pages(kv);
  return attention;
}

}  // namespace ds4::cuda
