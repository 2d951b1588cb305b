#include "engine/engine_fixture.h"

#include <cmath>

#include "backends/cpu/cpu_backend.h"
#include "base/file.h"
#include "base/rng.h"
#include "support/tiny_model.h"

namespace ds4::test {

TinyEngine::TinyEngine(const TinyEngineOptions& options)
    : backend(make_cpu_backend({.threads = 1, .profile = NumericProfile::kCanonical})) {
  model = Model::load(GgufFile::open(tiny_model_path()).take_value(), *backend).take_value();
  tokenizer = load_tokenizer(*model->file).take_value();
  cache = KvCache::create(*backend, model->hyperparams, options.kv).take_value();
  const ForwardLimits limits{.batch_rows = options.prefill_chunk_tokens + options.kv.n_slots,
                             .logits_rows = options.kv.n_slots};
  if (!options.steering_file.empty())
    steering = Steering::load(options.steering_file, model->hyperparams, *backend).take_value();
  forward = ForwardPass::create(*backend, *model, *cache, limits, steering.get()).take_value();
  if (options.remembers)
    sessions = std::make_unique<SessionStore>(*cache, tokenizer.get(), SessionOptions{.min_tokens = 1});
  scheduler = std::make_unique<Scheduler>(
      *forward, *cache, tokenizer.get(), sessions.get(),
      SchedulerOptions{.prefill_chunk_tokens = options.prefill_chunk_tokens,
                       .n_vocab = model->hyperparams.n_vocab,
                       .first_seed = 1,
                       .spacing = options.spacing,
                       .steering = {.has_directions = steering != nullptr, .directions = {1, 2}, .defaults = {}}});
}

TinyRequest::TinyRequest(std::vector<int32_t> prompt, int32_t max_tokens) {
  request.prompt_tokens = std::move(prompt);
  request.max_tokens = max_tokens;
  request.output.raw_text = true;
  request.sampling.temperature = 0;
  request.n_top_logprobs = 0;
  request.sink = sink;
  request.cancel = cancel;
}

std::string write_tiny_directions(const std::string& name, uint64_t seed) {
  const SyntheticShape shape = tiny_model_shape();
  const auto width = static_cast<size_t>(shape.hidden);
  std::vector<float> values(shape.ratios.size() * width);
  Xorshift64Star rng(seed);
  for (size_t first = 0; first < values.size(); first += width) {
    float square = 0.0F;
    for (size_t i = first; i < first + width; ++i) {
      values[i] = static_cast<float>(rng.next() % 2001) * 0.001F - 1.0F;
      square += values[i] * values[i];
    }
    for (size_t i = first; i < first + width; ++i) values[i] /= std::sqrt(square);
  }
  const std::string path = temporary_path(name);
  EXPECT_TRUE(atomic_write(path, std::as_bytes(std::span(values))).ok());
  return path;
}

std::vector<int32_t> some_tokens(int32_t n, uint64_t seed) {
  Xorshift64Star rng(seed);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(rng.next() % 288));
  return tokens;
}

}  // namespace ds4::test
