#include "engine/engine_fixture.h"

#include "backends/cpu/cpu_backend.h"
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
  forward = ForwardPass::create(*backend, *model, *cache, limits).take_value();
  scheduler = std::make_unique<Scheduler>(*forward, *cache, tokenizer.get(),
                                          SchedulerOptions{.prefill_chunk_tokens = options.prefill_chunk_tokens,
                                                           .n_vocab = model->hyperparams.n_vocab,
                                                           .first_seed = 1});
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

std::vector<int32_t> some_tokens(int32_t n, uint64_t seed) {
  Xorshift64Star rng(seed);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(rng.next() % 288));
  return tokens;
}

}  // namespace ds4::test
