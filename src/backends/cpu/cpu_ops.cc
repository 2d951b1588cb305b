#include "backends/cpu/cpu_ops.h"

#include <array>
#include <cmath>
#include <cstring>

#include "backends/cpu/row_kernels.h"
#include "gguf/dequantize.h"
#include "ops/kv_access.h"
#include "ops/reference/compressor.h"
#include "ops/reference/hc.h"

namespace ds4 {

namespace {

// Values a thread should get at once: below this, handing work over costs more than it saves. A decode step of one
// sequence stays on the calling thread.
constexpr int64_t kGrainValues = 65536;

int64_t rows_per_grain(int64_t values_per_row) {
  return std::max<int64_t>(1, kGrainValues / std::max<int64_t>(values_per_row, 1));
}

// Row kernels for any number of streams; the model has four.
constexpr int64_t kStreams = 4;

void mix_row(const cpu::RowKernels& kernels, const float* mix, const float* scale, const float* base,
             const HcParams& params, const reference::HcMixRow& out) {
  params.n_streams == kStreams ? kernels.hc_mix(mix, scale, base, params, out)
                               : reference::hc_mix_row<float>(mix, scale, base, params, out);
}

reference::HcMixRow split_row(const HcSplit& split, int64_t row, int64_t n) {
  return {split.pre.f32() + row * n, split.post.f32() + row * n, split.comb.f32() + row * n * n};
}

// The largest of p + bias, descending, equal ones in favour of the lower expert; or those of the token.
void choose_experts(const RouterArgs& args, int64_t row, const float* p, std::span<int32_t> ids) {
  if (args.token_table) {
    const int64_t token = args.tokens.i32()[row];
    std::copy_n(args.token_table.i32() + token * std::ssize(ids), ids.size(), ids.begin());
    return;
  }
  const auto rank = [&, bias = args.bias ? args.bias.f32() : nullptr](int32_t e) {
    return bias == nullptr ? p[e] : p[e] + bias[e];
  };
  const auto n_experts = static_cast<int32_t>(args.logits.shape[1]);
  size_t n = 0;
  for (int32_t e = 0; e < n_experts; ++e) {
    const float own = rank(e);
    if (n == ids.size() && !(own > rank(ids[n - 1]))) continue;
    size_t place = n < ids.size() ? n++ : n - 1;
    for (; place > 0 && own > rank(ids[place - 1]); --place) ids[place] = ids[place - 1];
    ids[place] = e;
  }
}

void weigh_experts(const float* p, std::span<const int32_t> ids, float scale, float* weights) {
  float sum = 0.0f;
  for (const int32_t id : ids) sum += p[id];
  sum = std::max(sum, 0x1p-14f);
  for (size_t k = 0; k < ids.size(); ++k) weights[k] = p[ids[k]] / sum * scale;
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
      kernels_.rows->rms_norm(x.f32() + r * n, gain, epsilon, n, out.f32() + r * n);
  });
}

void CpuOps::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  pool_.parallel_for(out.elements(), kGrainValues, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) out.f32()[i] = a.f32()[i] + b.f32()[i];
  });
}

void CpuOps::hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
                    const HcSplit& out) {
  pool_.parallel_for(mix.shape[0], 8, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      mix_row(*kernels_.rows, mix.f32() + r * mix.shape[1], scale.f32(), base.f32(), params,
              split_row(out, r, params.n_streams));
    }
  });
}

void CpuOps::hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  pool_.parallel_for(streams.shape[0], rows_per_grain(n * width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      kernels_.rows->hc_reduce(streams.f32() + r * n * width, weights.f32() + r * n, n, width, out.f32() + r * width);
    }
  });
}

void CpuOps::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  const int64_t n = streams.shape[1];
  const int64_t width = streams.shape[2];
  pool_.parallel_for(streams.shape[0], rows_per_grain(n * width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float* post = split.post.f32() + r * n;
      const float* comb = split.comb.f32() + r * n * n;
      float* to = streams.f32() + r * n * width;
      n == kStreams ? kernels_.rows->hc_expand(y.f32() + r * width, post, comb, width, to)
                    : reference::hc_expand_row<float>(y.f32() + r * width, post, comb, static_cast<int>(n), width, to);
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

// Rows go through all steps together while they are in cache. Few rows share the matrix between threads instead.
void CpuOps::hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out) {
  constexpr int64_t kBlockRows = 8;
  constexpr int64_t kChunkOutputs = 2;
  const int64_t n_rows = args.streams.shape[0];
  const cpu::WeightMatrix fn{args.fn.type, args.fn.data<std::byte>(),
                             static_cast<int64_t>(row_bytes(args.fn.type, args.fn.shape[1]).value()), args.fn.shape[1]};
  const ActivationForm form = activation_form(fn.type, profile_);
  if (form != ActivationForm::kReal) return Ops::hc_pre(args, split, out);
  const int64_t n_streams = args.params.n_streams;
  const int64_t n_mix = args.fn.shape[0];
  const auto norm = [&](int64_t r) {
    kernels_.rows->rms_norm(args.streams.f32() + r * fn.n_in, nullptr, args.rms_epsilon, fn.n_in,
                            args.normed_scratch.f32() + r * fn.n_in);
  };
  const auto multiply = [&](int64_t first_row, int64_t last_row, int64_t first, int64_t last) {
    std::array<cpu::Column, kBlockRows> columns;
    for (int64_t r = first_row; r < last_row; ++r) {
      columns[static_cast<size_t>(r - first_row)] = {.values = args.normed_scratch.f32() + r * fn.n_in,
                                                     .out = args.mix_scratch.f32() + r * n_mix};
    }
    kernels_.multiply(fn, form, first, last, {columns.data(), static_cast<size_t>(last_row - first_row)});
  };
  const auto reduce = [&](int64_t r) {
    mix_row(*kernels_.rows, args.mix_scratch.f32() + r * n_mix, args.scale.f32(), args.base.f32(), args.params,
            split_row(split, r, n_streams));
    const int64_t width = out.shape[1];
    kernels_.rows->hc_reduce(args.streams.f32() + r * fn.n_in, split.pre.f32() + r * n_streams, n_streams, width,
                             out.f32() + r * width);
  };
  if (n_rows <= kBlockRows) {
    for (int64_t r = 0; r < n_rows; ++r) norm(r);
    pool_.parallel_for(n_rows == 0 ? 0 : n_mix, kChunkOutputs,
                       [&](int64_t first, int64_t last) { multiply(0, n_rows, first, last); });
    for (int64_t r = 0; r < n_rows; ++r) reduce(r);
    return;
  }
  pool_.parallel_for(n_rows, kBlockRows, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) norm(r);
    multiply(first, last, 0, n_mix);
    for (int64_t r = first; r < last; ++r) reduce(r);
  });
}

// Sines and cosines of a step's positions serve every layer of the same class.
const CpuOps::RopeAngles& CpuOps::rope_angles(const RopeTable& table, std::span<const int32_t> positions) {
  const std::span frequencies(table.inverse_frequencies.f32(),
                              static_cast<size_t>(table.inverse_frequencies.elements()));
  for (const RopeAngles& known : rope_angles_) {
    if (std::ranges::equal(known.frequencies, frequencies) && std::ranges::equal(known.positions, positions))
      return known;
  }
  RopeAngles& angles = rope_angles_[next_rope_angles_++ % rope_angles_.size()];
  angles.frequencies.assign(frequencies.begin(), frequencies.end());
  angles.positions.assign(positions.begin(), positions.end());
  const size_t n_rot = 2 * frequencies.size();
  angles.cosines.resize(std::max(angles.cosines.size(), positions.size() * n_rot));
  angles.sines.resize(angles.cosines.size());
  pool_.parallel_for(std::ssize(positions), 32, [&](int64_t first, int64_t last) {
    for (auto r = static_cast<size_t>(first); r < static_cast<size_t>(last); ++r) {
      for (size_t i = 0; i < frequencies.size(); ++i) {
        const float angle = static_cast<float>(positions[r]) * frequencies[i];
        const size_t at = r * n_rot + 2 * i;
        angles.cosines[at] = angles.cosines[at + 1] = std::cos(angle);
        angles.sines[at + 1] = std::sin(angle);
        angles.sines[at] = -angles.sines[at + 1];
      }
    }
  });
  return angles;
}

void CpuOps::rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) {
  const int64_t n_heads = x.shape[1];
  const int64_t width = x.shape[2];
  const int64_t n_rot = 2 * table.inverse_frequencies.elements();
  const RopeAngles& angles = rope_angles(table, {positions.i32(), static_cast<size_t>(x.shape[0])});
  pool_.parallel_for(x.shape[0], rows_per_grain(4 * n_heads * n_rot), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      for (int64_t h = 0; h < n_heads; ++h) {
        kernels_.rows->rotate(x.f32() + (r * n_heads + h + 1) * width - n_rot, angles.cosines.data() + r * n_rot,
                              angles.sines.data() + r * n_rot, n_rot, inverse);
      }
    }
  });
}

void CpuOps::kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) {
  pool_.parallel_for(x.shape[0], rows_per_grain(4 * format.width), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      kernels_.rows->pack_row(x.f32() + r * format.width, format, rows.data<std::byte>() + r * format.row_bytes);
    }
  });
}

// Rows that close in the batch, all sequences together.
void CpuOps::compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) {
  const CompressorKv& compressor = args.compressor;
  closing_.clear();
  closing_positions_.clear();
  for (const SequenceSpan& span : batch.spans) {
    const reference::RowRange rows = reference::closing_rows(compressor, span);
    for (int32_t row = rows.first; row < rows.last; ++row) {
      closing_.push_back({&span, row});
      closing_positions_.push_back(row * compressor.ratio);
    }
  }
  if (!closing_.empty()) {
    const RopeAngles& angles = rope_angles(args.rope, closing_positions_);
    const auto width = static_cast<size_t>(compressor.format.width);
    thread_scratch_.resize(std::max(thread_scratch_.size(), width * static_cast<size_t>(pool_.n_threads())));
    const int64_t n_candidates = int64_t{compressor.ratio} * compressor.n_lanes;
    pool_.parallel_for(std::ssize(closing_), rows_per_grain(4 * n_candidates * compressor.format.width),
                       [&](int64_t first, int64_t last, int thread) {
                         float* x = thread_scratch_.data() + static_cast<size_t>(thread) * width;
                         for (int64_t i = first; i < last; ++i) compress_row(args, i, angles, kv, x);
                       });
  }
  for (const SequenceSpan& span : batch.spans) reference::update_rings(args, span, kv);
}

// x: scratch, [width]
void CpuOps::compress_row(const CompressArgs& args, int64_t i, const RopeAngles& angles, const KvMemory& kv,
                          float* x) const {
  const KvRowFormat& format = args.compressor.format;
  const int32_t ratio = args.compressor.ratio;
  const auto [span, row] = closing_[static_cast<size_t>(i)];
  const int32_t own_lane = args.compressor.n_lanes - 1;
  std::array<reference::Candidate, 2 * kPageTokens> candidates;
  size_t n = 0;
  for (int32_t position = row * ratio; position < (row + 1) * ratio; ++position) {
    if (own_lane == 1 && row > 0) candidates[n++] = reference::find_candidate(args, *span, kv, position - ratio, 0);
    candidates[n++] = reference::find_candidate(args, *span, kv, position, own_lane);
  }
  const cpu::RowKernels& kernels = *kernels_.rows;
  kernels.pool({candidates.data(), n}, format.width, x);
  kernels.rms_norm(x, args.norm.f32(), args.rms_epsilon, format.width, x);
  const int64_t n_rot = 2 * args.rope.inverse_frequencies.elements();
  kernels.rotate(x + format.width - n_rot, angles.cosines.data() + i * n_rot, angles.sines.data() + i * n_rot, n_rot,
                 false);
  if (format.encoding == KvEncoding::kFp4) kernels.hadamard(x, format.width);
  kernels.pack_row(x, format, compressed_row(kv, args.compressor, span->slot, row));
}

void CpuOps::window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch, const KvMemory& kv) {
  window_append_host(rows, layer, batch, kv);
}

void CpuOps::index_round(const TensorView& x) {
  if (profile_ == NumericProfile::kExact) return;
  const int64_t width = x.shape[2];
  pool_.parallel_for(x.shape[0] * x.shape[1], rows_per_grain(8 * width), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) kernels_.rows->index_round(x.f32() + i * width, width);
  });
}

void CpuOps::router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) {
  const int64_t n_used = ids.shape[1];
  const int64_t n_experts = args.logits.shape[1];
  thread_scratch_.resize(std::max(thread_scratch_.size(), static_cast<size_t>(n_experts * int64_t{pool_.n_threads()})));
  pool_.parallel_for(ids.shape[0], rows_per_grain(16 * n_experts), [&](int64_t first, int64_t last, int thread) {
    float* p = thread_scratch_.data() + thread * n_experts;
    for (int64_t r = first; r < last; ++r) {
      kernels_.rows->sqrt_softplus(args.logits.f32() + r * n_experts, n_experts, p);
      choose_experts(args, r, p, {ids.i32() + r * n_used, static_cast<size_t>(n_used)});
      weigh_experts(p, {ids.i32() + r * n_used, static_cast<size_t>(n_used)}, args.weights_scale,
                    weights.f32() + r * n_used);
    }
  });
}

void CpuOps::swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) {
  pool_.parallel_for(out.elements(), kGrainValues / 4, [&](int64_t first, int64_t last) {
    kernels_.rows->swiglu(gate.f32() + first, up.f32() + first, clamp, 1.0f, last - first, out.f32() + first);
  });
}

void CpuOps::gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  gather_rows_host(x, row_ids, out);
}

void CpuOps::steer(const TensorView& x, const TensorView& direction, const TensorView& scales) {
  const int64_t n = x.shape[1];
  pool_.parallel_for(x.shape[0], rows_per_grain(2 * n), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float scale = scales.f32()[r];
      if (scale != 0.0f) kernels_.rows->steer(x.f32() + r * n, direction.f32(), scale, n);
    }
  });
}

}  // namespace ds4
