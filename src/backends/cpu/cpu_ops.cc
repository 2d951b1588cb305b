#include "backends/cpu/cpu_ops.h"

#include <cstring>

#include "gguf/dequantize.h"
#include "ops/kv_access.h"
#include "ops/kv_rows.h"
#include "ops/reference/compressor.h"
#include "ops/reference/hc.h"
#include "ops/reference/indexer.h"
#include "ops/reference/norm.h"
#include "ops/reference/rope.h"
#include "ops/reference/router.h"

namespace ds4 {

namespace {

// Values a thread should get at once: below this, handing work over costs more than it saves.
constexpr int64_t kGrainValues = 16384;

int64_t rows_per_grain(int64_t values_per_row) {
  return std::max<int64_t>(1, kGrainValues / std::max<int64_t>(values_per_row, 1));
}

}  // namespace

void CpuOps::embed(const TensorView& table, const TensorView& tokens, const TensorView& out) {
  const int64_t width = out.shape[1];
  for (int64_t r = 0; r < out.shape[0]; ++r) {
    dequantize_row(table.type, table.rows(tokens.i32()[r], 1).data<std::byte>(), out.f32() + r * width, width);
  }
}

void CpuOps::hc_init(const TensorView& x, const TensorView& streams) {
  const int64_t width = x.shape[1];
  const int64_t n = streams.shape[1];
  for (int64_t i = 0; i < streams.shape[0] * n; ++i) {
    std::memcpy(streams.f32() + i * width, x.f32() + i / n * width, static_cast<size_t>(width) * sizeof(float));
  }
}

void CpuOps::rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) {
  const int64_t n = x.shape.back();
  const float* gain = weight ? weight.f32() : nullptr;
  pool_.parallel_for(x.shape[0], rows_per_grain(n), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r)
      reference::rms_norm_row<float>(x.f32() + r * n, gain, epsilon, n, out.f32() + r * n);
  });
}

void CpuOps::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  for (int64_t i = 0; i < out.elements(); ++i) out.f32()[i] = a.f32()[i] + b.f32()[i];
}

void CpuOps::hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
                    const HcSplit& out) {
  const int64_t n = params.n_streams;
  pool_.parallel_for(mix.shape[0], 8, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      reference::hc_mix_row<float>(mix.f32() + r * mix.shape[1], scale.f32(), base.f32(), params,
                                   {out.pre.f32() + r * n, out.post.f32() + r * n, out.comb.f32() + r * n * n});
    }
  });
}

void CpuOps::hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  pool_.parallel_for(streams.shape[0], rows_per_grain(n * width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      reference::hc_reduce_row<float>(streams.f32() + r * n * width, weights.f32() + r * n, static_cast<int>(n), width,
                                      out.f32() + r * width);
    }
  });
}

void CpuOps::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  pool_.parallel_for(streams.shape[0], rows_per_grain(n * width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      reference::hc_expand_row<float>(y.f32() + r * width, split.post.f32() + r * n, split.comb.f32() + r * n * n,
                                      static_cast<int>(n), width, streams.f32() + r * n * width);
    }
  });
}

void CpuOps::hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                         const TensorView& weights) {
  const int64_t n = mix.shape[1];
  for (int64_t r = 0; r < mix.shape[0]; ++r) {
    reference::hc_head_mix_row<float>(mix.f32() + r * n, scale.f32(), base.f32(), epsilon, static_cast<int>(n),
                                      weights.f32() + r * n);
  }
}

void CpuOps::rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) {
  const int64_t n_heads = x.shape[1];
  const int64_t width = x.shape[2];
  const TensorView& frequencies = table.inverse_frequencies;
  const int64_t n_rot = 2 * frequencies.elements();
  pool_.parallel_for(x.shape[0] * n_heads, rows_per_grain(8 * n_rot), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      reference::rope_tail<float>(x.f32() + i * width, width, frequencies.f32(), n_rot, positions.i32()[i / n_heads],
                                  inverse);
    }
  });
}

void CpuOps::kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) {
  pool_.parallel_for(x.shape[0], rows_per_grain(8 * format.width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      pack_kv_row(x.f32() + r * format.width, format, rows.data<std::byte>() + r * format.row_bytes);
    }
  });
}

void CpuOps::compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) {
  for (const SequenceSpan& span : batch.spans) {
    const reference::RowRange closing = reference::closing_rows(args.compressor, span);
    pool_.parallel_for(closing.last - closing.first, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        reference::compress_row<float>(args, span, kv, closing.first + static_cast<int32_t>(i));
      }
    });
    reference::update_rings(args, span, kv);
  }
}

void CpuOps::window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch, const KvMemory& kv) {
  window_append_host(rows, layer, batch, kv);
}

void CpuOps::index_round(const TensorView& x) {
  if (profile_ == NumericProfile::kExact) return;
  const auto width = static_cast<int32_t>(x.shape[2]);
  pool_.parallel_for(x.shape[0] * x.shape[1], rows_per_grain(16 * width), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) reference::index_round_head(x.f32() + i * width, width);
  });
}

void CpuOps::router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) {
  const int64_t n_used = ids.shape[1];
  pool_.parallel_for(ids.shape[0], rows_per_grain(16 * args.logits.shape[1]), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      reference::router_row<float>(args, r, n_used, ids.i32() + r * n_used, weights.f32() + r * n_used);
    }
  });
}

void CpuOps::swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) {
  pool_.parallel_for(out.elements(), kGrainValues / 8, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) out.f32()[i] = reference::swiglu<float>(gate.f32()[i], up.f32()[i], clamp);
  });
}

void CpuOps::gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  gather_rows_host(x, row_ids, out);
}

}  // namespace ds4
