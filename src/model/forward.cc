#include "model/forward.h"

#include <algorithm>

#include "model/schedule.h"

namespace ds4 {

Result<std::unique_ptr<ForwardPass>> ForwardPass::create(Backend& backend, const Model& model, KvCache& cache,
                                                         const ForwardLimits& limits, const Steering* steering) {
  CHECK(limits.batch_rows >= 1 && limits.logits_rows >= 1, "{} rows, {} logits", limits.batch_rows, limits.logits_rows);
  std::unique_ptr<ForwardPass> pass(new ForwardPass(backend, model, cache, limits, steering));
  pass->activations_ = TRY(Activations::create(backend, model.hyperparams, cache.layout(), limits));
  const auto batch_rows = static_cast<size_t>(limits.batch_rows);
  const auto logits_rows = static_cast<size_t>(limits.logits_rows);
  pass->inputs_.reserve(batch_rows);
  pass->spans_.reserve(batch_rows);
  pass->token_ids_.reserve(batch_rows);
  pass->positions_.reserve(batch_rows);
  pass->wanted_row_ids_.reserve(logits_rows);
  pass->attn_scales_.values.reserve(batch_rows);
  pass->ffn_scales_.values.reserve(batch_rows);
  pass->host_logits_ =
      TRY(backend.allocate_host(logits_rows * static_cast<size_t>(model.hyperparams.n_vocab) * sizeof(float)));
  return pass;
}

ForwardPass::ForwardPass(Backend& backend, const Model& model, KvCache& cache, const ForwardLimits& limits,
                         const Steering* steering)
    : backend_(backend), model_(model), cache_(cache), limits_(limits), steering_(steering) {}

ForwardPass::~ForwardPass() { backend_.forget_steps(this); }

Result<std::span<const float>> ForwardPass::run(std::span<const SequenceInput> inputs) {
  TRY(plan(inputs));
  const StepKey key{.owner = this,
                    .n_rows = batch_.n_rows,
                    .n_wanted = static_cast<int32_t>(wanted_row_ids_.size()),
                    .steers_attn = bool(attn_scales_.view),
                    .steers_ffn = bool(ffn_scales_.view)};
  backend_.run_step(key, batch_, [this] {
    run_embedding();
    for (int32_t layer = 0; layer < model_.hyperparams.n_layer; ++layer) run_layer(layer);
    run_head();
  });
  return take_logits();
}

Result<void> ForwardPass::begin(std::span<const SequenceInput> inputs) {
  TRY(plan(inputs));
  run_embedding();
  return {};
}

Result<std::span<const float>> ForwardPass::finish() {
  run_head();
  return take_logits();
}

Result<void> ForwardPass::plan(std::span<const SequenceInput> inputs) {
  TRY(check_inputs(inputs));
  for (const SequenceInput& input : inputs) TRY(input.kv->reserve(static_cast<int32_t>(input.tokens.size())));
  plan_rows(inputs);
  return {};
}

// x [R, D] = embedding rows; every stream starts as x
void ForwardPass::run_embedding() {
  Ops& ops = backend_.ops();
  ops.embed(model_.weights.token_embd, batch_.tokens, rows(activations_.embedding));
  ops.hc_init(rows(activations_.embedding), streams());
}

void ForwardPass::run_layer(int32_t layer) {
  run_attention(layer);
  run_ffn(layer);
}

// Only rows whose logits are wanted: streams [L, S, D] -> weighted sum [L, D] -> norm -> logits [L, n_vocab]
void ForwardPass::run_head() {
  const auto n_wanted = static_cast<int64_t>(wanted_row_ids_.size());
  const auto wanted = [&](const TensorView& activation) { return activation.rows(0, n_wanted); };
  const Hyperparams& h = model_.hyperparams;
  const ModelWeights& w = model_.weights;
  const Activations& a = activations_;
  Ops& ops = backend_.ops();

  ops.gather_rows(streams(), wanted(a.wanted_rows), wanted(a.wanted_streams));
  ops.rms_norm(wanted(a.wanted_streams).reshaped({n_wanted, int64_t{h.n_hc} * h.n_embd}), {}, h.rms_epsilon,
               wanted(a.wanted_normed));
  ops.matmul(w.output_hc_fn, wanted(a.wanted_normed), wanted(a.wanted_mix));
  ops.hc_head_mix(wanted(a.wanted_mix), w.output_hc_scale, w.output_hc_base, h.hc_epsilon, wanted(a.wanted_weights));
  ops.hc_reduce(wanted(a.wanted_streams), wanted(a.wanted_weights), wanted(a.wanted_hidden));
  ops.rms_norm(wanted(a.wanted_hidden), w.output_norm, h.rms_epsilon, wanted(a.wanted_hidden));
  ops.matmul(w.output, wanted(a.wanted_hidden), wanted(a.logits));
}

Result<std::span<const float>> ForwardPass::take_logits() {
  const TensorView logits = activations_.logits.rows(0, static_cast<int64_t>(wanted_row_ids_.size()));
  backend_.download(logits, {host_logits_->host_data(), logits.size_bytes()});
  TRY(backend_.finish());
  for (const SequenceInput& input : inputs_) input.kv->advance(static_cast<int32_t>(input.tokens.size()));
  return std::span(reinterpret_cast<const float*>(host_logits_->host_data()), static_cast<size_t>(logits.elements()));
}

TensorView ForwardPass::streams() const { return rows(activations_.streams); }

// u = streams weighted by `pre`, then the sub-layer's norm: hidden [R, D]; post and comb wait in activations_.split
void ForwardPass::mix_streams(const StreamMixer& mixer, const TensorView& norm) {
  const Hyperparams& h = model_.hyperparams;
  const HcPreArgs args{.streams = streams(),
                       .fn = mixer.fn,
                       .scale = mixer.scale,
                       .base = mixer.base,
                       .params = {h.n_hc, h.hc_sinkhorn_iterations, h.hc_epsilon},
                       .rms_epsilon = h.rms_epsilon,
                       .normed_scratch = rows(activations_.hc_normed),
                       .mix_scratch = rows(activations_.hc_mixes)};
  backend_.ops().sublayer_input({.pre = args, .mixed = rows(activations_.mixed), .norm = norm}, split(),
                                rows(activations_.hidden));
}

HcSplit ForwardPass::split() const {
  return {rows(activations_.split.pre), rows(activations_.split.post), rows(activations_.split.comb)};
}

SteerArgs ForwardPass::steering(int32_t il, const StepScales& scales) const {
  if (!scales.view || !steering_->direction(il)) return {};
  return {.direction = steering_->direction(il), .scales = scales.view};
}

const RopeTable& ForwardPass::rope_table(int32_t layer) const {
  return model_.hyperparams.ratio(layer) == 0 ? model_.rope : model_.compressed_rope;
}

Result<void> ForwardPass::check_inputs(std::span<const SequenceInput> inputs) const {
  int64_t n_rows = 0;
  int64_t n_wanted = 0;
  for (const SequenceInput& input : inputs) {
    CHECK(input.kv != nullptr && !input.tokens.empty(), "an input needs a sequence and tokens");
    CHECK(steering_ != nullptr || !input.steering.any(), "steering without directions");
    n_rows += static_cast<int64_t>(input.tokens.size());
    if (input.logits == LogitsWanted::kLast) n_wanted += 1;
    if (input.logits == LogitsWanted::kAll) n_wanted += static_cast<int64_t>(input.tokens.size());
    for (const int32_t token : input.tokens) {
      if (token >= 0 && token < model_.hyperparams.n_vocab) continue;
      return make_error(ErrorCode::kInvalidArgument, "token {}: expected an id from 0 to {}", token,
                        model_.hyperparams.n_vocab - 1);
    }
  }
  CHECK(n_rows <= limits_.batch_rows && n_wanted <= limits_.logits_rows, "{} of {} rows, {} of {} logits", n_rows,
        limits_.batch_rows, n_wanted, limits_.logits_rows);
  return {};
}

void ForwardPass::plan_rows(std::span<const SequenceInput> inputs) {
  inputs_.assign(inputs.begin(), inputs.end());
  spans_.clear();
  token_ids_.clear();
  positions_.clear();
  wanted_row_ids_.clear();
  for (const SequenceInput& input : inputs) {
    const auto first_row = static_cast<int32_t>(token_ids_.size());
    const auto n_rows = static_cast<int32_t>(input.tokens.size());
    spans_.push_back({input.kv->slot(), first_row, n_rows, input.kv->n_tokens()});
    for (int32_t i = 0; i < n_rows; ++i) {
      token_ids_.push_back(input.tokens[static_cast<size_t>(i)]);
      positions_.push_back(input.kv->n_tokens() + i);
      const bool is_wanted =
          input.logits == LogitsWanted::kAll || (input.logits == LogitsWanted::kLast && i == n_rows - 1);
      if (is_wanted) wanted_row_ids_.push_back(first_row + i);
    }
  }
  batch_.n_rows = static_cast<int32_t>(token_ids_.size());
  batch_.tokens = rows(activations_.tokens);
  batch_.positions = rows(activations_.positions);
  batch_.spans = spans_;
  backend_.upload(std::as_bytes(std::span(token_ids_)), batch_.tokens);
  backend_.upload(std::as_bytes(std::span(positions_)), batch_.positions);
  const auto n_wanted = static_cast<int64_t>(wanted_row_ids_.size());
  backend_.upload(std::as_bytes(std::span(wanted_row_ids_)), activations_.wanted_rows.rows(0, n_wanted));
  plan_steering();
}

void ForwardPass::plan_steering() {
  const auto plan = [&](float SteeringScales::* which, StepScales& scales, const TensorView& memory) {
    scales.view = {};
    scales.values.clear();
    for (const SequenceInput& input : inputs_) {
      const float scale = input.steering.*which;
      if (scale != 0.0f) scales.view = rows(memory);
      scales.values.insert(scales.values.end(), input.tokens.size(), scale);
    }
    if (scales.view) backend_.upload(std::as_bytes(std::span(scales.values)), scales.view);
  };
  plan(&SteeringScales::attn, attn_scales_, activations_.attn_steering);
  plan(&SteeringScales::ffn, ffn_scales_, activations_.ffn_steering);
}

}  // namespace ds4
