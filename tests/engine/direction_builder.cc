#include "engine/direction_builder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "backends/cpu/cpu_backend.h"
#include "base/file.h"
#include "chat/renderer.h"

namespace ds4::test {
namespace {

constexpr int32_t kCtxTokens = 256;

double dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void normalise(double* x, size_t n) {
  const double length = std::sqrt(dot(x, x, n));
  for (size_t i = 0; i < n && length > 0; ++i) x[i] /= length;
}

}  // namespace

void DirectionBuilder::OutputOps::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  const int64_t width = y.shape[1];
  const float* last = y.f32() + (y.shape[0] - 1) * width;
  outputs.insert(outputs.end(), last, last + width);
  ForwardingOps::hc_expand(y, split, streams);
}

DirectionBuilder::DirectionBuilder(const std::string& model_path) : backend_(make_cpu_backend({.threads = 1})) {
  model_ = Model::load(GgufFile::open(model_path).take_value(), *backend_).take_value();
  tokenizer_ = load_tokenizer(*model_->file).take_value();
  cache_ = KvCache::create(*backend_, model_->hyperparams, {.n_slots = 1, .ctx_tokens = kCtxTokens}).take_value();
  ops_ = std::make_unique<OutputOps>(backend_->ops());
  watched_ = std::make_unique<BackendWithOps>(*backend_, *ops_);
  forward_ =
      ForwardPass::create(*watched_, *model_, *cache_, {.batch_rows = kCtxTokens, .logits_rows = 1}).take_value();
}

std::vector<double> DirectionBuilder::mean_outputs(const std::vector<std::string>& prompts) {
  const Hyperparams& h = model_->hyperparams;
  std::vector<double> mean(static_cast<size_t>(2 * h.n_layer * h.n_embd));
  for (const std::string& prompt : prompts) {
    Conversation conversation;
    conversation.messages.resize(1);
    conversation.messages[0].content = prompt;
    const auto tokens =
        tokenizer_->encode(render(conversation, {.thinking_mode = ThinkingMode::kChat}).take_value().segments);
    KvState kv = cache_->new_sequence().take_value();
    const SequenceInput input{&kv, tokens};
    ops_->outputs.clear();
    EXPECT_TRUE(forward_->run(std::span(&input, 1)).ok());
    EXPECT_EQ(ops_->outputs.size(), mean.size());
    for (size_t i = 0; i < mean.size(); ++i)
      mean[i] += static_cast<double>(ops_->outputs[i]) / static_cast<double>(prompts.size());
  }
  return mean;
}

std::vector<float> DirectionBuilder::build(const std::vector<std::string>& wanted,
                                           const std::vector<std::string>& contrast, SteeredOutput output) {
  const std::vector<double> of_wanted = mean_outputs(wanted);
  std::vector<double> of_contrast = mean_outputs(contrast);
  const auto n_layer = static_cast<size_t>(model_->hyperparams.n_layer);
  const auto width = static_cast<size_t>(model_->hyperparams.n_embd);
  std::vector<float> directions;
  for (size_t layer = 0; layer < n_layer; ++layer) {
    const size_t first = (2 * layer + (output == SteeredOutput::kExperts ? 1 : 0)) * width;
    double* base = of_contrast.data() + first;
    std::vector<double> direction(width);
    for (size_t i = 0; i < width; ++i) direction[i] = of_wanted[first + i] - base[i];
    normalise(direction.data(), width);
    normalise(base, width);
    const double along = dot(direction.data(), base, width);
    for (size_t i = 0; i < width; ++i) direction[i] -= along * base[i];
    normalise(direction.data(), width);
    for (const double value : direction) directions.push_back(static_cast<float>(value));
  }
  return directions;
}

void write_directions(const std::string& path, const std::vector<float>& directions) {
  EXPECT_TRUE(atomic_write(path, std::as_bytes(std::span(directions))).ok());
}

}  // namespace ds4::test
