#include "ops/profile_ops.h"

#include <algorithm>
#include <functional>
#include <tuple>

namespace ds4 {

std::vector<OpProfile> ProfileOps::profile() const {
  std::vector<OpProfile> profiles;
  for (const Entry& entry : entries_) profiles.push_back(entry.total);
  std::ranges::sort(profiles, std::greater(),
                    [](const OpProfile& profile) { return std::tie(profile.us, profile.name); });
  return profiles;
}

void ProfileOps::reset() {
  entries_.clear();
  distinct_experts_ = 0;
  expert_calls_ = 0;
}

ProfileOps::Work ProfileOps::matrix_work(const TensorView& weight, int64_t n_rows) {
  return {weight, weight.size_bytes(), static_cast<uint64_t>(n_rows) * static_cast<uint64_t>(weight.elements())};
}

// Some thirty entries in all: a search by comparison is nothing beside an op.
ProfileOps::Entry& ProfileOps::entry(const char* op, const TensorView& weight) {
  for (Entry& known : entries_) {
    if (known.op == op && known.weight.type == weight.type && known.weight.shape == weight.shape) return known;
  }
  std::string name = op;
  if (weight) name += fmt::format(" {} {}", dtype_name(weight.type), weight.shape.to_string());
  return entries_.emplace_back(Entry{op, weight, {.name = std::move(name)}});
}

template <class Call>
void ProfileOps::timed(const char* op, const Work& work, const Call& call) {
  const int64_t since_us = clock_.now_us();
  call();
  if (target_.finish) target_.finish();
  const int64_t us = clock_.elapsed_us(since_us);
  OpProfile& total = entry(op, work.weight).total;
  total.calls += 1;
  total.us += us;
  total.weight_bytes += work.weight_bytes;
  total.macs += work.macs;
}

void ProfileOps::embed(const TensorView& table, const TensorView& tokens, const TensorView& out) {
  timed("embed", {}, [&] { ops_.embed(table, tokens, out); });
}

void ProfileOps::hc_init(const TensorView& x, const TensorView& streams) {
  timed("hc_init", {}, [&] { ops_.hc_init(x, streams); });
}

void ProfileOps::rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) {
  timed("rms_norm", {}, [&] { ops_.rms_norm(x, weight, epsilon, out); });
}

void ProfileOps::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  timed("matmul", matrix_work(weight, x.shape[0]), [&] { ops_.matmul(weight, x, out); });
}

void ProfileOps::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups,
                                const TensorView& out) {
  timed("matmul_grouped", matrix_work(weight, x.shape[0]), [&] { ops_.matmul_grouped(weight, x, n_groups, out); });
}

void ProfileOps::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  timed("add", {}, [&] { ops_.add(a, b, out); });
}

void ProfileOps::hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
                        const HcSplit& out) {
  timed("hc_mix", {}, [&] { ops_.hc_mix(mix, scale, base, params, out); });
}

void ProfileOps::hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) {
  timed("hc_reduce", {}, [&] { ops_.hc_reduce(streams, weights, out); });
}

void ProfileOps::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  timed("hc_expand", {}, [&] { ops_.hc_expand(y, split, streams); });
}

void ProfileOps::hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                             const TensorView& weights) {
  timed("hc_head_mix", {}, [&] { ops_.hc_head_mix(mix, scale, base, epsilon, weights); });
}

void ProfileOps::rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) {
  timed("rope", {}, [&] { ops_.rope(x, positions, table, inverse); });
}

void ProfileOps::kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) {
  timed("kv_pack", {}, [&] { ops_.kv_pack(x, format, rows); });
}

void ProfileOps::compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) {
  timed("compress", {}, [&] { ops_.compress(args, batch, kv); });
}

void ProfileOps::window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch,
                               const KvMemory& kv) {
  timed("window_append", {}, [&] { ops_.window_append(rows, layer, batch, kv); });
}

void ProfileOps::index_round(const TensorView& x) {
  timed("index_round", {}, [&] { ops_.index_round(x); });
}

void ProfileOps::index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                              const TensorView& selected, const TensorView& n_selected) {
  timed("index_select", {}, [&] { ops_.index_select(args, batch, kv, selected, n_selected); });
}

void ProfileOps::attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv,
                           const TensorView& out) {
  timed("attention", {}, [&] { ops_.attention(args, batch, kv, out); });
}

void ProfileOps::router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) {
  timed("router", {}, [&] { ops_.router(args, ids, weights); });
}

void ProfileOps::swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) {
  timed("swiglu", {}, [&] { ops_.swiglu(gate, up, clamp, out); });
}

ProfileOps::Work ProfileOps::expert_work(const ExpertsArgs& args) {
  std::vector<int32_t> used(static_cast<size_t>(args.ids.elements()));
  if (target_.download) {
    target_.download(args.ids, std::as_writable_bytes(std::span(used)));
  } else {
    std::copy_n(args.ids.i32(), used.size(), used.begin());
  }
  std::ranges::sort(used);
  const auto n_distinct = static_cast<uint64_t>(std::ranges::unique(used).begin() - used.begin());
  distinct_experts_ += n_distinct;
  expert_calls_ += 1;

  const auto n_experts = static_cast<uint64_t>(args.gate.shape[0]);
  const uint64_t bytes = (args.gate.size_bytes() + args.up.size_bytes() + args.down.size_bytes()) / n_experts;
  const auto elements =
      static_cast<uint64_t>(args.gate.elements() + args.up.elements() + args.down.elements()) / n_experts;
  return {args.gate, n_distinct * bytes, static_cast<uint64_t>(args.ids.elements()) * elements};
}

void ProfileOps::experts(const ExpertsArgs& args, const TensorView& out) {
  timed("experts", expert_work(args), [&] { ops_.experts(args, out); });
}

void ProfileOps::gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  timed("gather_rows", {}, [&] { ops_.gather_rows(x, row_ids, out); });
}

void ProfileOps::steer(const TensorView& x, const TensorView& direction, const TensorView& scales) {
  timed("steer", {}, [&] { ops_.steer(x, direction, scales); });
}

void ProfileOps::hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out) {
  timed("hc_pre", matrix_work(args.fn, args.streams.shape[0]), [&] { ops_.hc_pre(args, split, out); });
}

ProfileOps::Work ProfileOps::shared_work(const SharedExpertArgs& args) {
  Work work = matrix_work(args.gate, args.x.shape[0]);
  for (const TensorView& weight : {args.up, args.down}) work.add(matrix_work(weight, args.x.shape[0]));
  return work;
}

void ProfileOps::shared_expert(const SharedExpertArgs& args, const TensorView& out) {
  timed("shared_expert", shared_work(args), [&] { ops_.shared_expert(args, out); });
}

void ProfileOps::sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out) {
  if (!target_.whole_steps) return Ops::sublayer_input(args, split, out);
  timed("sublayer_input", matrix_work(args.pre.fn, args.pre.streams.shape[0]),
        [&] { ops_.sublayer_input(args, split, out); });
}

void ProfileOps::project(const TensorView& x, std::span<const Product> products) {
  if (!target_.whole_steps || products.empty()) return Ops::project(x, products);
  Work work = matrix_work(products[0].weight, x.shape[0]);
  for (const Product& product : products.subspan(1)) work.add(matrix_work(product.weight, x.shape[0]));
  timed("project", work, [&] { ops_.project(x, products); });
}

void ProfileOps::latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv) {
  if (!target_.whole_steps) return Ops::latents(args, batch, kv);
  timed("latents", {}, [&] { ops_.latents(args, batch, kv); });
}

void ProfileOps::queries(const QueryArgs& args, const BatchView& batch) {
  if (!target_.whole_steps) return Ops::queries(args, batch);
  Work work = matrix_work(args.weight, batch.n_rows);
  if (args.index_query) work.add(matrix_work(args.index_weight, batch.n_rows));
  timed("queries", work, [&] { ops_.queries(args, batch); });
}

void ProfileOps::attend(const AttentionArgs& args, const RopeTable& rope_table, const BatchView& batch,
                        const KvMemory& kv, const TensorView& out) {
  if (!target_.whole_steps) return Ops::attend(args, rope_table, batch, kv, out);
  timed("attend", {}, [&] { ops_.attend(args, rope_table, batch, kv, out); });
}

void ProfileOps::attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams) {
  if (!target_.whole_steps) return Ops::attention_output(args, split, streams);
  Work work = matrix_work(args.a, args.y.shape[0]);
  work.add(matrix_work(args.b, args.y.shape[0]));
  timed("attention_output", work, [&] { ops_.attention_output(args, split, streams); });
}

void ProfileOps::ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams) {
  if (!target_.whole_steps) return Ops::ffn(args, split, streams);
  timed("ffn", {args.experts.gate}, [&] { ops_.ffn(args, split, streams); });
  // Known only now.
  Work work = expert_work(args.experts);
  work.add(matrix_work(args.router_weight, args.x.shape[0]));
  work.add(shared_work(args.shared));
  OpProfile& total = entry("ffn", args.experts.gate).total;
  total.weight_bytes += work.weight_bytes;
  total.macs += work.macs;
}

}  // namespace ds4
