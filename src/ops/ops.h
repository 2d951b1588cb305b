#pragma once

// THE op interface: everything the model's schedule (model/forward.h) asks of a backend. Methods enqueue work
// and return nothing; a device error is kept by the backend and reported by Backend::finish(). Each contract
// has five parts: formula, shapes, types and rounding points, what is undefined, source.
//
// Conventions. All activations are F32, contiguous, row-major. R = rows (tokens) of the batch, H = heads,
// D = embedding width, S = hyper-connection streams. Shapes are outermost first. Unless said otherwise outputs
// must not alias inputs, and R may be 0 (nothing happens). A matrix weight [n_out, n_in] may have any type of
// weight_types(kMatmul); vectors are F32 (converted at load). "spec N" = section N of docs/numerics.md.
// Results for a row never depend on the other rows of the batch. One thread calls at a time.

#include <cstdint>
#include <span>

#include "base/tensor.h"
#include "ops/kv_view.h"

namespace ds4 {

// What a weight is for; a backend declares the types it accepts per use (Backend::supports).
enum class WeightUse : uint8_t { kVector, kMatmul, kGroupedMatmul, kExperts, kEmbedding, kTokenTable };

// Angles of a layer class: theta_i(p) = f32(p) * inverse_frequencies[i], one product in F32.
struct RopeTable {
  TensorView inverse_frequencies;  // [n_rot / 2] f32
};

struct HcParams {
  int32_t n_streams = 4;
  int32_t sinkhorn_iterations = 20;
  float epsilon = 1e-6f;
};

struct HcSplit {
  TensorView pre;   // [R, S] weights of the streams in the sub-layer's input
  TensorView post;  // [R, S] weight of the sub-layer's output in each stream
  TensorView comb;  // [R, S, S] mixing of streams, [source][destination]
};

struct HcPreArgs {
  TensorView streams;  // [R, S, D]
  TensorView fn;       // [2S + S*S, S*D], any matmul type
  TensorView scale;    // [3]
  TensorView base;     // [2S + S*S]
  HcParams params;
  float rms_epsilon = 1e-6f;
  TensorView normed_scratch;  // [R, S*D]
  TensorView mix_scratch;     // [R, 2S + S*S]
};

struct CompressArgs {
  TensorView kv;     // [R, n_lanes * width] f32, projected
  TensorView score;  // same shape: gate projection, without position bias
  TensorView ape;    // [ratio, n_lanes * width] position bias
  TensorView norm;   // [width]
  float rms_epsilon = 1e-6f;
  RopeTable rope;
  CompressorKv compressor;
};

struct IndexSelectArgs {
  TensorView query;    // [R, HI, width], after index_round
  TensorView weights;  // [R, HI], raw projection; the op applies 1/sqrt(width * HI)
  CompressorKv indexer;
  int32_t top_k = 0;
};

struct AttentionArgs {
  TensorView query;        // [R, H, width], after head norm and rope
  TensorView window_rows;  // [R, row_bytes] u8: this batch's own rows in window_format
  TensorView sinks;        // [H]
  LayerKv layer;
  TensorView selected;    // [R, top_k] i32 ascending, or empty: all visible compressed rows
  TensorView n_selected;  // [R] i32, or empty
};

struct RouterArgs {
  TensorView logits;       // [R, E]
  TensorView bias;         // [E], or empty
  TensorView token_table;  // [n_vocab, K] i32 for hash-routed layers, else empty
  TensorView tokens;       // [R] i32; read only with token_table
  float weights_scale = 1.0f;
};

struct ExpertsArgs {
  TensorView x;        // [R, D]
  TensorView gate;     // [E, F, D]
  TensorView up;       // [E, F, D]
  TensorView down;     // [E, D, F]
  TensorView ids;      // [R, K] i32
  TensorView weights;  // [R, K]
  float clamp = 0.0f;
  TensorView mid;  // output, [R, K, F]: the input of each slot's down product before it is quantised; empty: not wanted
};

struct SharedExpertArgs {
  TensorView x;     // [R, D]
  TensorView gate;  // [F, D]
  TensorView up;    // [F, D]
  TensorView down;  // [D, F]
  float clamp = 0.0f;
  TensorView gate_scratch;  // [R, F]
  TensorView up_scratch;    // [R, F]
};

// One matrix of several that meet the same rows: out = weight * x, as matmul.
struct Product {
  TensorView weight;  // [n_out, n_in]
  TensorView out;     // [R, n_out]
};

struct SublayerInputArgs {
  HcPreArgs pre;
  TensorView mixed;  // [R, D] scratch: the weighted streams
  TensorView norm;   // [D]
};

// What a layer makes of the first projections of its input.
struct LatentArgs {
  TensorView q_lora, q_norm;  // [R, q_lora_rank] normalised in place; [q_lora_rank]
  TensorView kv, kv_norm;     // [R, head_dim], left normalised and rotated; [head_dim]
  RopeTable rope;
  float rms_epsilon = 1e-6f;
  KvRowFormat window_format;
  TensorView window_rows;                      // output, [R, row_bytes]
  std::span<const CompressArgs> compressions;  // none, attention, or attention and indexer
};

struct QueryArgs {
  TensorView x;             // [R, q_lora_rank]
  TensorView weight;        // [H * head_dim, q_lora_rank]
  TensorView query;         // output, [R, H, head_dim]
  TensorView index_weight;  // [HI * index_dim, q_lora_rank], or empty: no indexer
  TensorView index_query;   // output, [R, HI, index_dim], or empty
  RopeTable rope;
  float rms_epsilon = 1e-6f;
};

// A direction taken out of a sub-layer's output; no scales: nothing to do.
struct SteerArgs {
  TensorView direction;  // [D]
  TensorView scales;     // [R]
};

struct AttentionOutputArgs {
  TensorView heads;  // [R, H * head_dim]
  TensorView a;      // [n_groups * o_lora, H * head_dim / n_groups]
  int32_t n_groups = 1;
  TensorView lora;  // [R, n_groups * o_lora] scratch
  TensorView b;     // [D, n_groups * o_lora]
  TensorView y;     // [R, D] scratch: the sub-layer's output
  SteerArgs steer;
};

struct FfnArgs {
  TensorView x;              // [R, D]
  TensorView router_weight;  // [E, D]
  RouterArgs router;         // its logits are scratch
  ExpertsArgs experts;       // its ids and weights are scratch; x as above
  SharedExpertArgs shared;   // x as above
  TensorView shared_out;     // [R, D] scratch
  TensorView y;              // [R, D] scratch: the sub-layer's output
  SteerArgs steer;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // out[r] = row tokens[r] of table, dequantised. table [n_vocab, D] any embedding type, tokens [R] i32, out [R, D].
  // Exact. Undefined: a token outside [0, n_vocab). Source: spec 4.1.
  virtual void embed(const TensorView& table, const TensorView& tokens, const TensorView& out) = 0;

  // streams[r][s] = x[r] for every stream. x [R, D], streams [R, S, D]. Exact. Source: spec 4.1.
  virtual void hc_init(const TensorView& x, const TensorView& streams) = 0;

  // out[r] = x[r] / sqrt(mean(x[r]^2) + epsilon) * weight. x, out [R, n] (out may be x); weight [n] or empty (no gain).
  // The mean is taken in double, the reciprocal root rounded to F32, then (x * r) * weight. Source: spec 4.1.
  virtual void rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) = 0;

  // out[r][o] = sum_i weight[o][i] * x[r][i]. weight [n_out, n_in] any matmul type, x [R, n_in], out [R, n_out].
  // Canonical profile: against Q8_0 and MXFP4 weights x is quantised per 32, against K- and IQ-types per 256;
  // otherwise products are F32. Source: spec 3.
  virtual void matmul(const TensorView& weight, const TensorView& x, const TensorView& out) = 0;

  // Block-diagonal matmul: output row o of group g = o / (n_out / n_groups) reads only slice g of x.
  // weight [n_out, n_in / n_groups], x [R, n_in], out [R, n_out]. Types and rounding as matmul. Source: spec 4.8.
  virtual void matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups,
                              const TensorView& out) = 0;

  // out = a + b, same shape, out may alias either. F32. Source: spec 4.10.
  virtual void add(const TensorView& a, const TensorView& b, const TensorView& out) = 0;

  // Gates and Sinkhorn-normalised mixing from raw values. mix [R, 2S + S*S] = [pre | post | comb row-major], scale [3],
  // base [2S + S*S]. All F32. Source: spec 4.2 steps 3 to 5.
  virtual void hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
                      const HcSplit& out) = 0;

  // out[r][d] = sum_s weights[r][s] * streams[r][s][d], ascending s, F32. streams [R, S, D], weights [R, S], out [R,
  // D]. Source: spec 4.2 step 6.
  virtual void hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) = 0;

  // streams[r][c][d] = y[r][d] * post[r][c] + sum_s comb[r][s][c] * streams[r][s][d], in place, ascending s, F32.
  // y [R, D], streams [R, S, D]. Source: spec 4.2.
  virtual void hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) = 0;

  // weights[r][s] = sigmoid(mix[r][s] * scale[0] + base[s]) + epsilon. mix, weights [R, S]; scale [1]; base [S].
  // Source: spec 4.11.
  virtual void hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                           const TensorView& weights) = 0;

  // Rotates the last n_rot values of every head in interleaved pairs by theta_i(positions[r]), or by minus that when
  // `inverse`; in place. x [R, H, width], positions [R] i32, n_rot = 2 * table size <= width. sin and cos are accurate
  // to F32. Source: spec 4.4.
  virtual void rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) = 0;

  // Stores rows in their KV form, rounding as the format says. x [R, width] f32, rows [R, row_bytes] u8. Source:
  // spec 4.5.
  virtual void kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) = 0;

  // Pools, normalises, rotates (at the window's first position) and packs every compressed row whose window closes in
  // this batch, writes it to its page, then stores the batch's last tokens in the frontier rings. The pages that
  // receive rows must be mapped and unshared. Indexer rows (kFp4) pass through the Hadamard rotation first.
  // F32 softmax per channel over the window. Source: spec 4.6.
  virtual void compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) = 0;

  // Copies the batch's window rows into the frontier rings: rows [R, row_bytes] u8. Call after attention, which reads
  // older rows from the ring. Exact. Source: spec 4.8.
  virtual void window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch,
                             const KvMemory& kv) = 0;

  // Canonical profile: x = fp4_round(hadamard(x)) per head, in place; exact profile: nothing (the rotation is
  // orthogonal and leaves scores unchanged). x [R, HI, width], width a power of two and a multiple of 32. Source:
  // spec 4.6, 4.7.
  virtual void index_round(const TensorView& x) = 0;

  // For every row: score[c] = sum_h max(0, <query[h], key_c>) * weights[h] / sqrt(width * HI) over the visible indexer
  // rows c; the top_k best, ties to the lower c, ascending, into selected [R, top_k] i32 and their number into
  // n_selected [R] i32. When no more than top_k rows are visible all are selected. Source: spec 4.7.
  virtual void index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                            const TensorView& selected, const TensorView& n_selected) = 0;

  // out[r][h] = softmax-weighted sum of rows, one softmax over the last `window` raw rows (including the own), the
  // compressed rows (selected, or all visible) and the sink, whose value is zero. Logits are <q, row> / sqrt(width).
  // Raw rows of earlier steps come from the ring, those of this batch from window_rows. out [R, H, width]. F32, rows in
  // the order raw oldest first, then compressed ascending. Source: spec 4.8.
  virtual void attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv,
                         const TensorView& out) = 0;

  // p = sqrt(softplus(logits)). ids [R, K] i32: token_table[token] or the K largest of p + bias, descending, ties to
  // the lower expert. weights [R, K] = p[id] / max(sum p[ids], 2^-14) * weights_scale. F32. Source: spec 4.9.
  virtual void router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) = 0;

  // out = silu(min(gate, clamp)) * clamp(up, -clamp, clamp); clamp 0 means none. Same shapes; out may alias. Source:
  // spec 4.10.
  virtual void swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) = 0;

  // out[r] = sum_k down[e] * ((silu(a) * b) * weights[r][k]), e = ids[r][k], a and b the clamped gate and up products,
  // ascending k from 0. out [R, D]. Quantised weights: rounding as matmul, x once, the product once per slot.
  // args.mid[r][k] = (silu(a) * b) * weights[r][k], if wanted. Source: spec 4.10.
  virtual void experts(const ExpertsArgs& args, const TensorView& out) = 0;

  // out[i] = x[row_ids[i]]. x [R, n], row_ids [N] i32, out [N, n]. Exact.
  virtual void gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) = 0;

  // x[r][i] -= (scales[r] * <direction, x[r]>) * direction[i], in place: with a direction of length one, scale 1
  // removes it from the row and -1 doubles it. x [R, n], direction [n], scales [R]. F32: the dot product in the order
  // of 2.1, then one rounding per operation. A row whose scale is 0 keeps its bits. Undefined: scales that are not
  // finite. Source: spec 4.12.
  virtual void steer(const TensorView& x, const TensorView& direction, const TensorView& scales) = 0;

  // Fused steps. The bodies in fused.cc spell them with the ops above; a backend overrides one where it has a kernel.

  // split = hc_mix(fn * rms_norm(streams)), out = hc_reduce(streams, split.pre). Source: spec 4.2.
  virtual void hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out);

  // out = down * swiglu(gate * x, up * x). out [R, D]. Source: spec 4.10.
  virtual void shared_expert(const SharedExpertArgs& args, const TensorView& out);

  // out = rms_norm(hc_pre(streams), norm). out [R, D]. Source: spec 4.2.
  virtual void sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out);

  // Every product, as matmul. The outputs lie apart. Source: spec 4.3.
  virtual void project(const TensorView& x, std::span<const Product> products);

  // q_lora = rms_norm(q_lora); window_rows = kv_pack(rope(rms_norm(kv))); every compression. Source: spec 4.3 to 4.6.
  virtual void latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv);

  // query = rope(rms_norm per head(weight * x)), index_query = index_round(rope(index_weight * x)). Source: spec 4.3,
  // 4.7.
  virtual void queries(const QueryArgs& args, const BatchView& batch);

  // attention, then window_append of its window_rows, then the inverse rope of out. Source: spec 4.4, 4.8.
  virtual void attend(const AttentionArgs& args, const RopeTable& rope, const BatchView& batch, const KvMemory& kv,
                      const TensorView& out);

  // y = b * (a grouped * heads), steered; streams = hc_expand(y). Source: spec 4.8.
  virtual void attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams);

  // y = experts that the router picks + shared expert, steered; streams = hc_expand(y). Source: spec 4.9, 4.10.
  virtual void ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams);
};

}  // namespace ds4
