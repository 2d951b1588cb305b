#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ds4 {

namespace {

// Source: docs/numerics.md 4.4. Every step is one F32 operation, as in the published code: the rounding of a frequency,
// times a position, is visible in the logits.
float plain_frequency(int32_t pair, int32_t n_rot, float base) {
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(n_rot);
  return 1.0f / static_cast<float>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
}

std::vector<float> plain_frequencies(int32_t n_rot, float base) {
  std::vector<float> frequencies;
  for (int32_t i = 0; i < n_rot / 2; ++i) frequencies.push_back(plain_frequency(i, n_rot, base));
  return frequencies;
}

// YaRN: pairs that turn often enough within the original context keep their frequency, slow ones are stretched by
// the factor, those between are blended. No change of magnitude.
std::vector<float> yarn_frequencies(const Hyperparams& h) {
  const auto limit = [&](double beta) {
    return h.n_rot * std::log(h.yarn_original_ctx / (beta * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(double{h.compress_rope_base}));
  };
  const auto low = static_cast<float>(std::max(0.0, std::floor(limit(h.yarn_beta_fast))));
  const auto high = static_cast<float>(std::min(h.n_rot - 1.0, std::ceil(limit(h.yarn_beta_slow))));
  std::vector<float> frequencies;
  for (int32_t i = 0; i < h.n_rot / 2; ++i) {
    const float frequency = plain_frequency(i, h.n_rot, h.compress_rope_base);
    const float stretched = std::clamp((static_cast<float>(i) - low) / std::max(0.001f, high - low), 0.0f, 1.0f);
    frequencies.push_back(frequency / h.yarn_factor * stretched + frequency * (1.0f - stretched));
  }
  return frequencies;
}

}  // namespace

Result<std::unique_ptr<Model>> Model::load(std::unique_ptr<GgufFile> file, Backend& backend,
                                           const WeightProgress& progress) {
  auto model = std::make_unique<Model>();
  auto hyperparams = Hyperparams::read(file->metadata());
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), file->path());
  model->hyperparams = hyperparams.take_value();
  model->weights = TRY(ModelWeights::bind(*file, model->hyperparams, backend, progress));

  const Hyperparams& h = model->hyperparams;
  const int64_t n_pairs = h.n_rot / 2;
  model->rope_memory = TRY(backend.allocate(2 * static_cast<uint64_t>(n_pairs) * sizeof(float)));
  const TensorView tables{model->rope_memory.get(), 0, DType::kF32, {2, n_pairs}};
  model->rope.inverse_frequencies = tables.rows(0, 1).reshaped({n_pairs});
  model->compressed_rope.inverse_frequencies = tables.rows(1, 1).reshaped({n_pairs});
  const std::vector<float> plain = plain_frequencies(h.n_rot, h.rope_base);
  const std::vector<float> yarn = yarn_frequencies(h);
  backend.upload(std::as_bytes(std::span(plain)), model->rope.inverse_frequencies);
  backend.upload(std::as_bytes(std::span(yarn)), model->compressed_rope.inverse_frequencies);
  model->file = std::move(file);
  return model;
}

}  // namespace ds4
