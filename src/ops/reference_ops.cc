#include "ops/reference_ops.h"

#include <cstring>
#include <vector>

#include "ops/reference/attention.h"
#include "ops/reference/compressor.h"
#include "ops/reference/experts.h"
#include "ops/reference/hc.h"
#include "ops/reference/indexer.h"
#include "ops/reference/matmul.h"
#include "ops/reference/norm.h"
#include "ops/reference/rope.h"
#include "ops/reference/router.h"
#include "ops/reference/steer.h"

namespace ds4 {

template <class Real>
void ReferenceOps<Real>::embed(const TensorView& table, const TensorView& tokens, const TensorView& out) {
  const int64_t width = out.shape[1];
  for (int64_t r = 0; r < out.shape[0]; ++r) {
    dequantize_row(table.type, table.rows(tokens.i32()[r], 1).template data<std::byte>(), out.f32() + r * width, width);
  }
}

template <class Real>
void ReferenceOps<Real>::hc_init(const TensorView& x, const TensorView& streams) {
  const int64_t width = x.shape[1];
  for (int64_t i = 0; i < streams.shape[0] * streams.shape[1]; ++i) {
    std::memcpy(streams.f32() + i * width, x.f32() + i / streams.shape[1] * width,
                static_cast<size_t>(width) * sizeof(float));
  }
}

template <class Real>
void ReferenceOps<Real>::rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) {
  const int64_t n = x.shape.back();
  const float* gain = weight ? weight.f32() : nullptr;
  for (int64_t r = 0; r < x.shape[0]; ++r)
    reference::rms_norm_row<Real>(x.f32() + r * n, gain, epsilon, n, out.f32() + r * n);
}

template <class Real>
void ReferenceOps<Real>::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  matmul_grouped(weight, x, 1, out);
}

template <class Real>
void ReferenceOps<Real>::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups,
                                        const TensorView& out) {
  const int64_t n_rows = x.shape[0];
  if (n_rows == 0) return;
  const int64_t n_in = weight.shape[1];
  const int64_t n_out = weight.shape[0];
  const int64_t group_out = n_out / n_groups;
  std::vector<ActivationRow> slices(static_cast<size_t>(n_rows * n_groups));
  for (int64_t i = 0; i < n_rows * n_groups; ++i) {
    slices[static_cast<size_t>(i)].set(x.f32() + i * n_in, n_in, activation_form(weight.type, profile_));
  }
  for (int64_t g = 0; g < n_groups; ++g) {
    reference::matvec<Real>(weight.type, weight.rows(g * group_out, group_out).template data<std::byte>(),
                            {n_rows, group_out, n_in, n_groups, n_out}, slices.data() + g, out.f32() + g * group_out);
  }
}

template <class Real>
void ReferenceOps<Real>::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  for (int64_t i = 0; i < out.elements(); ++i) out.f32()[i] = a.f32()[i] + b.f32()[i];
}

template <class Real>
void ReferenceOps<Real>::hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base,
                                const HcParams& params, const HcSplit& out) {
  const int64_t n = params.n_streams;
  for (int64_t r = 0; r < mix.shape[0]; ++r) {
    reference::hc_mix_row<Real>(mix.f32() + r * mix.shape[1], scale.f32(), base.f32(), params,
                                {out.pre.f32() + r * n, out.post.f32() + r * n, out.comb.f32() + r * n * n});
  }
}

template <class Real>
void ReferenceOps<Real>::hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  for (int64_t r = 0; r < streams.shape[0]; ++r) {
    reference::hc_reduce_row<Real>(streams.f32() + r * n * width, weights.f32() + r * n, static_cast<int>(n), width,
                                   out.f32() + r * width);
  }
}

template <class Real>
void ReferenceOps<Real>::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  for (int64_t r = 0; r < streams.shape[0]; ++r) {
    reference::hc_expand_row<Real>(y.f32() + r * width, split.post.f32() + r * n, split.comb.f32() + r * n * n,
                                   static_cast<int>(n), width, streams.f32() + r * n * width);
  }
}

template <class Real>
void ReferenceOps<Real>::hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base,
                                     float epsilon, const TensorView& weights) {
  const int64_t n = mix.shape[1];
  for (int64_t r = 0; r < mix.shape[0]; ++r) {
    reference::hc_head_mix_row<Real>(mix.f32() + r * n, scale.f32(), base.f32(), epsilon, static_cast<int>(n),
                                     weights.f32() + r * n);
  }
}

template <class Real>
void ReferenceOps<Real>::rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) {
  const int64_t n_heads = x.shape[1];
  const int64_t width = x.shape[2];
  const TensorView& frequencies = table.inverse_frequencies;
  for (int64_t i = 0; i < x.shape[0] * n_heads; ++i) {
    reference::rope_tail<Real>(x.f32() + i * width, width, frequencies.f32(), 2 * frequencies.elements(),
                               positions.i32()[i / n_heads], inverse);
  }
}

template <class Real>
void ReferenceOps<Real>::kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) {
  for (int64_t r = 0; r < x.shape[0]; ++r) {
    pack_kv_row(x.f32() + r * format.width, format, rows.data<std::byte>() + r * format.row_bytes);
  }
}

template <class Real>
void ReferenceOps<Real>::compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) {
  for (const SequenceSpan& span : batch.spans) {
    const reference::RowRange closing = reference::closing_rows(args.compressor, span);
    for (int32_t row = closing.first; row < closing.last; ++row) reference::compress_row<Real>(args, span, kv, row);
    reference::update_rings(args, span, kv);
  }
}

template <class Real>
void ReferenceOps<Real>::window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch,
                                       const KvMemory& kv) {
  window_append_host(rows, layer, batch, kv);
}

template <class Real>
void ReferenceOps<Real>::index_round(const TensorView& x) {
  if (profile_ == NumericProfile::kExact) return;
  const auto width = static_cast<int32_t>(x.shape[2]);
  for (int64_t i = 0; i < x.shape[0] * x.shape[1]; ++i) reference::index_round_head(x.f32() + i * width, width);
}

template <class Real>
void ReferenceOps<Real>::index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                                      const TensorView& selected, const TensorView& n_selected) {
  for_each_row(batch, [&](const SequenceSpan& span, int64_t row, int32_t position) {
    n_selected.i32()[row] =
        reference::index_select_row<Real>(args, span, kv, position, selected.i32() + row * args.top_k);
  });
}

template <class Real>
void ReferenceOps<Real>::attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv,
                                   const TensorView& out) {
  const int64_t row_size = args.query.shape[1] * args.query.shape[2];
  for_each_row(batch, [&](const SequenceSpan& span, int64_t row, int32_t position) {
    reference::attention_row<Real>(args, span, kv, position, out.f32() + row * row_size);
  });
}

template <class Real>
void ReferenceOps<Real>::router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) {
  const int64_t n_used = ids.shape[1];
  for (int64_t r = 0; r < ids.shape[0]; ++r) {
    reference::router_row<Real>(args, r, n_used, ids.i32() + r * n_used, weights.f32() + r * n_used);
  }
}

template <class Real>
void ReferenceOps<Real>::swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) {
  for (int64_t i = 0; i < out.elements(); ++i)
    out.f32()[i] = static_cast<float>(reference::swiglu<Real>(gate.f32()[i], up.f32()[i], clamp));
}

template <class Real>
void ReferenceOps<Real>::experts(const ExpertsArgs& args, const TensorView& out) {
  for (int64_t r = 0; r < out.shape[0]; ++r)
    reference::experts_row<Real>(args, profile_, r, out.f32() + r * out.shape[1]);
}

template <class Real>
void ReferenceOps<Real>::gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  gather_rows_host(x, row_ids, out);
}

template <class Real>
void ReferenceOps<Real>::steer(const TensorView& x, const TensorView& direction, const TensorView& scales) {
  const int64_t n = x.shape[1];
  for (int64_t r = 0; r < x.shape[0]; ++r)
    reference::steer_row<Real>(x.f32() + r * n, direction.f32(), scales.f32()[r], n);
}

template class ReferenceOps<float>;
template class ReferenceOps<double>;

}  // namespace ds4
