// The model on a CUDA device beside the CPU: the same text for the embedded model's prompts, alone and in a batch;
// states that move between the two; weights that were made or loaded there. Without a device every test says so and is
// skipped.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "backends/cpu/cpu_backend.h"
#include "backends/host_backend.h"
#include "base/file.h"
#include "model/model_fixture.h"
#include "model/synthetic_weights.h"
#include "model/weight_table.h"
#include "quant/recipe.h"

namespace ds4::test {
namespace {

constexpr int32_t kEnd = 1;
constexpr int32_t kCtxTokens = 1024;
constexpr int32_t kBatch = 16;
constexpr NumericProfile kProfile = NumericProfile::kCanonical;

const std::string kMini = std::string(DS4_SOURCE_DIR) + "/models/ds4-mini.gguf";

struct Prompt {
  std::vector<int32_t> ids;
  size_t n_tokens;
};

std::vector<Prompt> mini_prompts() {
  const std::string text = read_file(std::string(DS4_SOURCE_DIR) + "/tests/vectors/mini/prompts.json", 1 << 20).value();
  const nlohmann::json json = nlohmann::json::parse(text);
  std::vector<Prompt> prompts;
  for (const auto& prompt : json["prompts"])
    prompts.push_back({prompt["ids"].get<std::vector<int32_t>>(), prompt["n_tokens"].get<size_t>()});
  return prompts;
}

class CudaModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    device_ = make_device_backend(profile_, reason);
    if (device_ == nullptr) GTEST_SKIP() << reason;
  }

  static LoadedModel load(std::unique_ptr<Backend> backend) {
    return LoadedModel::load(kMini, std::move(backend), {.n_slots = kBatch, .ctx_tokens = kCtxTokens, .n_pages = 0},
                             {.batch_rows = 512, .logits_rows = kBatch});
  }
  LoadedModel load_device() { return load(std::move(device_)); }
  LoadedModel load_cpu() const { return load(make_cpu_backend({.profile = profile_})); }

  NumericProfile profile_ = kProfile;
  std::unique_ptr<Backend> device_;
};

// Without rounding of activations to codes, where one that falls to the other side is seen in every logit.
class CudaStateTest : public CudaModelTest {
 protected:
  CudaStateTest() { profile_ = NumericProfile::kExact; }
};

int32_t best(std::span<const float> logits) { return argmax(logits.data(), static_cast<int32_t>(logits.size())); }

// Logits after the tokens, given in steps of at most 512.
std::vector<float> append(const LoadedModel& loaded, KvState& kv, std::span<const int32_t> tokens) {
  std::span<const float> logits;
  while (!tokens.empty()) {
    const auto piece = tokens.first(std::min<size_t>(tokens.size(), 512));
    tokens = tokens.subspan(piece.size());
    const SequenceInput input{&kv, piece, LogitsWanted::kLast};
    const auto rows = loaded.forward->run({&input, 1});
    CHECK(rows.ok(), "{}", rows.error().message);
    logits = rows.value();
  }
  return {logits.begin(), logits.end()};
}

std::vector<int32_t> continued(const LoadedModel& loaded, const Prompt& prompt) {
  KvState kv = loaded.new_sequence();
  std::vector<int32_t> output{best(append(loaded, kv, prompt.ids))};
  while (output.size() < prompt.n_tokens && output.back() != kEnd)
    output.push_back(best(append(loaded, kv, {&output.back(), 1})));
  return output;
}

// The same, all prompts of a batch in every step, whose answers have one length.
std::vector<std::vector<int32_t>> continued_together(const LoadedModel& loaded, std::span<const Prompt> prompts,
                                                     size_t n_tokens) {
  std::vector<KvState> states;
  std::vector<std::vector<int32_t>> outputs;
  for (const Prompt& prompt : prompts) {
    states.push_back(loaded.new_sequence());
    outputs.push_back({best(append(loaded, states.back(), prompt.ids))});
  }
  const auto n_vocab = static_cast<size_t>(loaded.model->hyperparams.n_vocab);
  while (outputs[0].size() < n_tokens) {
    std::vector<SequenceInput> inputs;
    for (size_t i = 0; i < states.size(); ++i)
      inputs.push_back({&states[i], {&outputs[i].back(), 1}, LogitsWanted::kLast});
    const auto logits = loaded.forward->run(inputs);
    CHECK(logits.ok(), "{}", logits.error().message);
    for (size_t i = 0; i < states.size(); ++i) outputs[i].push_back(best(logits.value().subspan(i * n_vocab, n_vocab)));
  }
  return outputs;
}

TEST_F(CudaModelTest, ContinuesEveryPromptAsTheCpuDoes) {
  const LoadedModel device = load_device();
  const LoadedModel cpu = load_cpu();
  for (const Prompt& prompt : mini_prompts()) EXPECT_EQ(continued(device, prompt), continued(cpu, prompt));
}

TEST_F(CudaModelTest, TextInABatchIsThatOfASequenceAlone) {
  constexpr size_t kTokens = 24;
  const LoadedModel device = load_device();
  std::vector<Prompt> prompts = mini_prompts();
  prompts.resize(kBatch);
  const auto together = continued_together(device, prompts, kTokens);
  for (size_t i = 0; i < prompts.size(); ++i)
    EXPECT_EQ(continued_together(device, std::span(prompts).subspan(i, 1), kTokens)[0], together[i]) << i;
}

// The state of `from` after the tokens, carried over as a checkpoint on disk would be.
KvState carried(const LoadedModel& from, const KvState& kv, const LoadedModel& to) {
  const KvCheckpoint checkpoint = kv.checkpoint();
  std::vector<PageRef> pages;
  for (size_t i = 0; i < checkpoint.pages.size(); ++i) {
    const int32_t n = std::min(kPageTokens, checkpoint.n_tokens - static_cast<int32_t>(i) * kPageTokens);
    pages.push_back(to.cache->new_page());
    to.cache->write_page(pages.back(), n, from.cache->read_page(checkpoint.pages[i], n));
  }
  KvState state = to.new_sequence();
  state.restore(checkpoint.n_tokens, pages, checkpoint.frontier);
  return state;
}

// Both continue a state that `from` computed.
void expect_same_continuation(const LoadedModel& from, const LoadedModel& to) {
  for (const Prompt& prompt : mini_prompts()) {
    if (prompt.ids.size() < 100) continue;  // one, two and three pages; states in the middle of windows
    KvState kv = from.new_sequence();
    std::vector<float> logits = append(from, kv, prompt.ids);
    KvState other = carried(from, kv, to);
    ASSERT_EQ(other.n_tokens(), kv.n_tokens());
    for (int32_t step = 0; step < 8; ++step) {
      const int32_t token = best(logits);
      logits = append(from, kv, {&token, 1});
      const std::vector<float> same = append(to, other, {&token, 1});
      double difference = 0, magnitude = 0;
      for (size_t i = 0; i < logits.size(); ++i) {
        difference = std::max(difference, std::fabs(double{logits[i]} - same[i]));
        magnitude = std::max(magnitude, std::fabs(double{logits[i]}));
      }
      EXPECT_LE(difference, 2e-3 * magnitude) << prompt.ids.size() << " tokens, step " << step;
    }
  }
}

TEST_F(CudaStateTest, AStateOfTheCpuGoesOnOnTheDevice) { expect_same_continuation(load_cpu(), load_device()); }
TEST_F(CudaStateTest, AStateOfTheDeviceGoesOnOnTheCpu) { expect_same_continuation(load_device(), load_cpu()); }

// All that the device keeps of a weight, whatever its layout there.
std::vector<std::byte> kept_bytes(const TensorView& view, Backend& backend) {
  const auto n = view.buffer->size_bytes();
  std::vector<std::byte> bytes(n);
  backend.download({view.buffer, 0, DType::kU8, {static_cast<int64_t>(n)}}, bytes);
  return bytes;
}

void expect_same_weights(const Model& one, const Model& other, Backend& backend) {
  for (const ExpectedTensor& tensor : expected_tensors(one.hyperparams)) {
    const TensorView& view = one.weights.view(*tensor.spec, tensor.layer);
    if (!view) continue;
    EXPECT_TRUE(kept_bytes(view, backend) == kept_bytes(other.weights.view(*tensor.spec, tensor.layer), backend))
        << tensor.name;
  }
}

TEST_F(CudaModelTest, WeightsMadeThereAreThoseMadeOnTheHost) {
  const auto host = make_reference_backend(ReferenceReal::kFloat, kProfile);
  for (const auto& [shape, recipe] : std::vector<std::pair<const char*, const char*>>{
           {"mini:4", "q2"}, {"mini:4", "q4"}, {"mini:4", "mxfp4"}, {"mini:4", "bf16"}, {"flash:1", "q2"}}) {
    SCOPED_TRACE(std::string(shape) + " " + recipe);
    const Hyperparams h = synthetic_hyperparams(named_synthetic_shape(shape).take_value()).take_value();
    SyntheticFile file;
    file.types = plan_types(expected_tensors(h), *find_recipe(recipe).value(), {}).take_value().types;
    ThreadPool threads(0);
    auto on_host = Model::load(make_synthetic_file(h, file, *host, threads).take_value(), *device_);
    auto on_device = Model::load(make_generated_file(h, file).take_value(), *device_);
    ASSERT_TRUE(on_host.ok()) << on_host.error().message;
    ASSERT_TRUE(on_device.ok()) << on_device.error().message;
    expect_same_weights(*on_host.value(), *on_device.value(), *device_);
  }
}

TEST_F(CudaModelTest, WeightsThatManyThreadsReadAreThoseOfTheFile) {
  std::unique_ptr<GgufFile> file = GgufFile::open(kMini).take_value();
  const GgufFile& opened = *file;
  std::vector<WeightToPlace> weights;
  for (const TensorInfo& tensor : opened.tensors()) weights.push_back({&tensor, opened.view(tensor)});
  const PlacedWeights read = device_->place_weights(opened, weights, {}).take_value();
  for (size_t i = 0; i < weights.size(); ++i) {
    const TensorView copied = device_->place_weight(weights[i].host).take_value();
    EXPECT_TRUE(kept_bytes(read.views[i], *device_) == kept_bytes(copied, *device_)) << weights[i].tensor->name;
  }
}

// Logits of 40 decoded tokens of the published model's first layer, one after another.
std::vector<float> decoded_flash_layer(Backend& backend) {
  const Hyperparams h = synthetic_hyperparams(named_synthetic_shape("flash:1").take_value()).take_value();
  SyntheticFile file;
  file.types = plan_types(expected_tensors(h), *find_recipe("q2").value(), {}).take_value().types;
  const auto model = Model::load(make_generated_file(h, file).take_value(), backend).take_value();
  const auto cache = KvCache::create(backend, h, {.n_slots = 1, .ctx_tokens = 256}).take_value();
  const auto pass = ForwardPass::create(backend, *model, *cache, {.batch_rows = 1, .logits_rows = 1}).take_value();
  KvState kv = cache->new_sequence().take_value();
  std::vector<float> all;
  for (int32_t token = 0; token < 40; ++token) {
    const SequenceInput input{&kv, {&token, 1}, LogitsWanted::kLast};
    const auto logits = pass->run({&input, 1});
    CHECK(logits.ok(), "{}", logits.error().message);
    all.insert(all.end(), logits.value().begin(), logits.value().end());
  }
  return all;
}

TEST_F(CudaModelTest, ExpertsInTheMachinesMemoryComputeTheSame) {
  std::string reason;
  const std::unique_ptr<Backend> small = make_device_backend(profile_, reason);
  ASSERT_NE(small, nullptr) << reason;
  constexpr uint64_t kCardBytes = uint64_t{400} << 20;  // of 1.8 GiB; some experts change places on the way
  if (!small->keep_experts_within(kCardBytes)) GTEST_SKIP() << "the driver cannot place pages in the machine's memory";
  const std::vector<float> whole = decoded_flash_layer(*device_);
  EXPECT_TRUE(decoded_flash_layer(*small) == whole);
}

TEST_F(CudaModelTest, MemoryThatWeightsTakeIsAtMostWhatIsPlanned) {
  const uint64_t before = device_->device_memory()->free_bytes;
  auto model = Model::load(GgufFile::open(kMini).take_value(), *device_).take_value();
  const uint64_t planned = placed_weight_bytes(*model->file, model->hyperparams, *device_);
  const uint64_t taken = before - std::min(before, device_->device_memory()->free_bytes);
  // The driver hands memory out in pieces of 2 MiB.
  EXPECT_LE(taken, planned + (uint64_t{64} << 20));
  EXPECT_GE(taken, planned / 2);
}

}  // namespace
}  // namespace ds4::test
