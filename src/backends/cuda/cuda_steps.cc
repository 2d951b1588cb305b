// Fused steps around the weight products: which kernel takes a batch, and its scratch. Where shapes do not fit the step
// is spelled with ops (ops/fused.cc). Upper limits of what a query sees are powers of two, so that a captured launch
// serves a range of positions.

#include <algorithm>
#include <cmath>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kv_arguments.h"

namespace ds4::cuda {
namespace {

constexpr int64_t kFewRows = 64;  // up to here a row may be of a sequence of its own
constexpr int64_t kSumsBytes = int64_t{256} << 20;
constexpr size_t kMostShared = 48 * 1024;

// Rows that a query of the batch sees, at most; the same for all batches of one position bound.
int64_t visible_bound(const BatchView& batch, int32_t ratio) {
  return ratio == 0 ? 0 : std::max<int64_t>(position_bound(batch) / ratio, kRangeRows);
}

// The part of the arguments that is of rows [first, first + n) of the batch.
Attend rows_of(Attend attend, int64_t first, int64_t n) {
  Attention& a = attend.attention;
  const int64_t values = first * a.n_heads * a.window.format.width;
  a.query += values;
  a.out += values;
  a.places += first;
  if (a.selected != nullptr) {
    a.selected += first * a.top_k;
    a.n_selected += first;
  }
  a.n_rows = n;
  return attend;
}

}  // namespace

void CudaOps::sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out) {
  if (out.elements() == 0) return;
  const HcPreArgs& pre = args.pre;
  SublayerInput step;
  step.streams = device_data<float>(pre.streams);
  step.fn = device_data<uint16_t>(pre.fn);
  step.scale = device_data<float>(pre.scale);
  step.base = device_data<float>(pre.base);
  step.norm = device_data<float>(args.norm);
  step.pre = device_data<float>(split.pre);
  step.post = device_data<float>(split.post);
  step.comb = device_data<float>(split.comb);
  step.out = device_data<float>(out);
  step.rms_epsilon = pre.rms_epsilon;
  step.hc_epsilon = pre.params.epsilon;
  step.iterations = pre.params.sinkhorn_iterations;
  step.n_rows = out.shape[0];
  step.width = out.shape[1];
  if (pre.fn.type != DType::kF16 || pre.params.n_streams != 4 || !accepts(step))
    return Ops::sublayer_input(args, split, out);
  note(cuda::sublayer_input(step, stream_), "sublayer_input");
}

void CudaOps::latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv) {
  if (batch.n_rows == 0) return;
  Latents step;
  step.q_lora = device_data<float>(args.q_lora);
  step.kv = device_data<float>(args.kv);
  step.q_norm = device_data<float>(args.q_norm);
  step.kv_norm = device_data<float>(args.kv_norm);
  step.frequencies = device_data<float>(args.rope.inverse_frequencies);
  step.n_frequencies = static_cast<int32_t>(args.rope.inverse_frequencies.elements());
  step.q_width = static_cast<int32_t>(args.q_lora.shape.back());
  step.rms_epsilon = args.rms_epsilon;
  step.format = kv_format(args.window_format);
  step.window_rows = device_data<uint8_t>(args.window_rows);
  step.n_compressions = static_cast<int32_t>(args.compressions.size());
  step.n_rows = batch.n_rows;
  bool fits = args.compressions.size() <= 2 && static_cast<size_t>(step.q_width) * sizeof(float) <= kMostShared;
  for (const CompressArgs& compression : args.compressions) fits = fits && compression.compressor.format.width % 2 == 0;
  if (!fits) return Ops::latents(args, batch, kv);
  step.places = places(batch);
  if (step.places == nullptr) return;
  for (size_t i = 0; i < args.compressions.size(); ++i)
    step.compressions[i] = compress_arguments(args.compressions[i], batch, kv, step.places);
  note(cuda::latents(step, stream_), "latents");
}

void CudaOps::index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                           const TensorView& selected, const TensorView& n_selected) {
  if (batch.n_rows == 0) return;
  IndexSelect select;
  select.query = device_data<float>(args.query);
  select.weights = device_data<float>(args.weights);
  select.n_heads = static_cast<int32_t>(args.query.shape[1]);
  select.weight_scale = 1.0f / std::sqrt(static_cast<float>(args.query.shape[1] * args.query.shape[2]));
  select.indexer = compressor(args.indexer);
  select.places = places(batch);
  select.n_rows = batch.n_rows;
  select.top_k = args.top_k;
  select.max_visible = visible_bound(batch, args.indexer.ratio);
  select.selected = device_data<int32_t>(selected);
  select.n_selected = device_data<int32_t>(n_selected);
  select.memory = kv_pages(kv);
  const bool is_rounded = accepts(select);
  const bool scores_all = !is_rounded || batch.n_rows <= kFewRows;
  const int64_t score_rows = scores_all ? batch.n_rows : index_rows_at_once(batch.n_rows, select.max_visible);
  select.scores = scores_.get<float>(score_rows * select.max_visible, status_);
  uint16_t* prepared =
      is_rounded ? prepared_queries_.get<uint16_t>(prepared_query_values(batch.n_rows), status_) : nullptr;
  if (select.places == nullptr || select.scores == nullptr) return;
  note(is_rounded ? index_select_rounded(select, prepared, stream_) : cuda::index_select(select, stream_),
       "index_select");
}

// In as many launches as the scratch demands.
void CudaOps::attend_rows(const Attend& attend, const RowRange& rows, bool appends) {
  const int64_t ranges = attend_ranges(attend) * attend.attention.n_heads;
  const int64_t fitting = kSumsBytes / (ranges * attend.attention.window.format.width * 4);
  const int64_t at_once = std::min(rows.n, std::clamp<int64_t>(fitting, 1, kFewRows));
  auto* sums = range_sums_.get<float>(at_once * ranges * attend.attention.window.format.width, status_);
  auto* tops = range_tops_.get<float>(at_once * ranges * 2, status_);
  if (sums == nullptr || tops == nullptr) return;
  for (int64_t first = 0; first < rows.n; first += at_once) {
    Attend part = rows_of(attend, rows.first + first, std::min(at_once, rows.n - first));
    part.sums = sums;
    part.tops = tops;
    part.appends = appends && at_once == rows.n;
    note(cuda::attend(part, stream_), "attend");
  }
  if (appends && at_once < rows.n) {
    note(cuda::window_append(attend.attention.window, attend.attention.places, attend.attention.n_rows,
                             attend.attention.memory, stream_),
         "window_append");
  }
}

// Long spans by themselves, but for their first rows, whose window is not full; all other rows in runs.
void CudaOps::attend_spans(const Attend& attend, const BatchView& batch) {
  const Attention& a = attend.attention;
  RowRange run{0, 0};
  const auto end_run = [&](int64_t next) {
    if (run.n > 0) attend_rows(attend, run, /*appends=*/false);
    run = {next, 0};
  };
  for (const SequenceSpan& span : batch.spans) {
    const int32_t n_short = std::clamp(a.window.size - 1 - span.first_position, 0, span.n_rows);
    const bool is_prompt = span.n_rows > kFewRows && n_short < span.n_rows;  // of the span alone
    run.n += is_prompt ? n_short : span.n_rows;
    if (!is_prompt) continue;
    end_run(span.first_row + span.n_rows);
    AttendPrompt prompt;
    prompt.attend = attend;
    const int32_t end_position = span.first_position + span.n_rows;
    prompt.span = {span.slot, span.first_position + n_short, span.first_row, span.first_position, end_position};
    prompt.first_row = span.first_row + n_short;
    prompt.n_rows = span.n_rows - n_short;
    prompt.n_compressed = ds4::visible_rows(end_position - 1, a.ratio);
    prompt.rows = unpacked_rows_.get<uint16_t>(prompt_rows(prompt) * a.window.format.width, status_);
    if (prompt.rows != nullptr) note(attend_prompt(prompt, stream_), "attend: prompt");
  }
  end_run(0);
  note(cuda::window_append(a.window, a.places, a.n_rows, a.memory, stream_), "window_append");
}

void CudaOps::attend(const AttentionArgs& args, const RopeTable& rope, const BatchView& batch, const KvMemory& kv,
                     const TensorView& out) {
  if (batch.n_rows == 0) return;
  const RowPlace* places = this->places(batch);
  if (places == nullptr) return;
  Attend attend;
  attend.attention = attention_arguments(args, batch, kv, places, out);
  attend.frequencies = device_data<float>(rope.inverse_frequencies);
  attend.n_frequencies = static_cast<int32_t>(rope.inverse_frequencies.elements());
  attend.compressed_bound = visible_bound(batch, args.layer.ratio);
  if (args.selected) attend.compressed_bound = std::min<int64_t>(attend.compressed_bound, attend.attention.top_k);
  attend.appends = false;
  attend.sums = attend.tops = nullptr;
  if (!accepts(attend)) return Ops::attend(args, rope, batch, kv, out);
  if (batch.n_rows <= kFewRows || !accepts_prompt(attend)) return attend_rows(attend, {0, batch.n_rows}, true);
  attend_spans(attend, batch);
}

}  // namespace ds4::cuda
