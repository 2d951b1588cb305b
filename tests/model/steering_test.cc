#include "model/steering.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/backend_with_ops.h"
#include "base/file.h"
#include "base/rng.h"
#include "model/model_fixture.h"
#include "ops/forwarding_ops.h"
#include "support/temporary_path.h"

namespace ds4::test {
namespace {

constexpr int32_t kTokens = 150;
const auto kLayers = static_cast<size_t>(tiny_shape().ratios.size());
const auto kWidth = static_cast<size_t>(tiny_shape().hidden);

std::vector<float> some_directions() {
  std::vector<float> values(kLayers * kWidth);
  Xorshift64Star rng(7);
  for (float& value : values) value = static_cast<float>(rng.next() % 2001) * 0.0003F - 0.3F;
  return values;
}

std::string write_floats(const std::string& name, const std::vector<float>& values, size_t n_bytes) {
  const std::string path = temporary_path(name);
  EXPECT_TRUE(atomic_write(path, std::as_bytes(std::span(values)).first(n_bytes)).ok());
  return path;
}
std::string write_floats(const std::string& name, const std::vector<float>& values) {
  return write_floats(name, values, values.size() * sizeof(float));
}

Hyperparams tiny_hyperparams() { return synthetic_hyperparams(tiny_shape()).take_value(); }

std::string load_error(const std::string& path) {
  const auto backend = make_backend(BackendKind::kCpu, NumericProfile::kExact, 1);
  const auto steering = Steering::load(path, tiny_hyperparams(), *backend);
  EXPECT_FALSE(steering.ok());
  return steering.ok() ? std::string() : steering.error().message;
}

TEST(SteeringFileTest, HoldsOneDirectionPerLayerOfTheMainModel) {
  const auto backend = make_backend(BackendKind::kCpu, NumericProfile::kExact, 1);
  std::vector<float> values = some_directions();
  std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(2 * kWidth), kWidth, -0.0F);
  const auto steering = Steering::load(write_floats("good.f32", values), tiny_hyperparams(), *backend);
  ASSERT_TRUE(steering.ok()) << steering.error().message;
  EXPECT_TRUE(std::ranges::equal(steering.value()->values(), values));
  for (int32_t layer = 0; layer < static_cast<int32_t>(kLayers); ++layer) {
    const TensorView& direction = steering.value()->direction(layer);
    EXPECT_EQ(static_cast<bool>(direction), layer != 2) << "a zero row steers nothing";
    if (!direction) continue;
    std::vector<float> row(kWidth);
    backend->download(direction, std::as_writable_bytes(std::span(row)));
    EXPECT_TRUE(std::equal(row.begin(), row.end(), values.begin() + layer * static_cast<std::ptrdiff_t>(kWidth)));
  }
}

TEST(SteeringFileTest, AnyOtherSizeIsRefusedWithBothSizes) {
  std::vector<float> values = some_directions();
  values.resize(2 * values.size());
  const size_t n_good = kLayers * kWidth * sizeof(float);
  for (const size_t n_bytes : {size_t{1}, size_t{4}, kWidth * 4, n_good - 4, n_good - 1, n_good + 1, n_good + 4,
                               n_good + kWidth * 4, 2 * n_good}) {
    const std::string message = load_error(write_floats("odd.f32", values, n_bytes));
    EXPECT_NE(message.find("odd.f32"), std::string::npos) << message;
    EXPECT_NE(message.find(fmt::format("expected {} bytes", n_good)), std::string::npos) << message;
    EXPECT_NE(message.find(fmt::format("found {}", n_bytes)), std::string::npos) << message;
  }
  EXPECT_NE(load_error("/nonexistent/v.f32").find("/nonexistent/v.f32"), std::string::npos);
  EXPECT_NE(load_error(write_floats("empty.f32", values, 0)).find("empty.f32"), std::string::npos);
}

TEST(SteeringFileTest, ValuesMustBeFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = some_directions();
    values[3 * kWidth + 5] = bad;
    EXPECT_NE(load_error(write_floats("bad.f32", values)).find("value 5 of layer 3 is not finite"), std::string::npos);
  }
}

// A model with directions, on any backend.
struct SteeredModel {
  LoadedModel loaded;
  std::unique_ptr<Steering> steering;

  explicit SteeredModel(BackendKind kind, NumericProfile profile = NumericProfile::kCanonical)
      : loaded(LoadedModel::load(synthetic_file("steering", tiny_shape()), make_backend(kind, profile),
                                 {.n_slots = 4, .ctx_tokens = 512, .n_pages = 0},
                                 {.batch_rows = 2 * kTokens, .logits_rows = 2 * kTokens})) {
    steering =
        Steering::load(write_floats("directions.f32", some_directions()), loaded.model->hyperparams, *loaded.backend)
            .take_value();
    loaded.forward =
        ForwardPass::create(*loaded.backend, *loaded.model, *loaded.cache, loaded.forward->limits(), steering.get())
            .take_value();
  }

  // Logits [tokens, vocab] of a new sequence.
  std::vector<float> run(const std::vector<int32_t>& tokens, const SteeringScales& scales, size_t chunk = kTokens) {
    KvState kv = loaded.new_sequence();
    std::vector<float> logits;
    for (size_t done = 0; done < tokens.size(); done += chunk) {
      const SequenceInput input{&kv, std::span(tokens).subspan(done, std::min(chunk, tokens.size() - done)),
                                LogitsWanted::kAll, scales};
      const auto rows = loaded.forward->run(std::span(&input, 1));
      EXPECT_TRUE(rows.ok());
      logits.insert(logits.end(), rows.value().begin(), rows.value().end());
    }
    return logits;
  }
};

TEST(SteeredForwardTest, WithoutScalesItIsBitIdenticalToNoDirections) {
  const auto tokens = tiny_tokens(kTokens, 1);
  for (const BackendKind kind : {BackendKind::kCpu, BackendKind::kReferenceFloat}) {
    const LoadedModel plain = LoadedModel::load(
        synthetic_file("steering", tiny_shape()), make_backend(kind, NumericProfile::kCanonical),
        {.n_slots = 1, .ctx_tokens = 512, .n_pages = 0}, {.batch_rows = kTokens, .logits_rows = kTokens});
    KvState kv = plain.new_sequence();
    const std::vector<float> expected = plain.run(kv, tokens, {kTokens});
    SteeredModel model(kind);
    EXPECT_EQ(model.run(tokens, {}), expected);
    EXPECT_EQ(model.run(tokens, {.attn = -0.0F, .ffn = 0.0F}), expected);
    EXPECT_NE(model.run(tokens, {.attn = 1.0F}), expected);
    EXPECT_NE(model.run(tokens, {.ffn = 1.0F}), expected);
  }
}

TEST(SteeredForwardTest, ChunksAndNeighboursWithOtherScalesDoNotMatter) {
  SteeredModel model(BackendKind::kCpu);
  const SteeringScales scales[] = {{.attn = 1.0F}, {}, {.attn = -2.0F, .ffn = 0.5F}};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> alone;
  for (int32_t s = 0; s < 3; ++s) {
    tokens.push_back(tiny_tokens(kTokens / 2, 10 + s));
    alone.push_back(model.run(tokens.back(), scales[s]));
    EXPECT_EQ(model.run(tokens.back(), scales[s], 7), alone.back());
  }
  std::vector<KvState> states;
  std::vector<SequenceInput> inputs;
  for (size_t s = 0; s < 3; ++s) states.push_back(model.loaded.new_sequence());
  for (size_t s = 0; s < 3; ++s) inputs.push_back({&states[s], tokens[s], LogitsWanted::kAll, scales[s]});
  const auto together = model.loaded.forward->run(inputs);
  ASSERT_TRUE(together.ok());
  size_t offset = 0;
  for (size_t s = 0; s < 3; ++s) {
    const auto part = together.value().subspan(offset, alone[s].size());
    EXPECT_TRUE(std::ranges::equal(part, alone[s])) << "sequence " << s;
    offset += alone[s].size();
  }
}

TEST(SteeredForwardTest, BackendsAgreeWhereNothingIsRounded) {
  const auto tokens = tiny_tokens(40, 3);
  const SteeringScales scales{.attn = 0.8F, .ffn = -0.6F};
  const std::vector<float> expected =
      SteeredModel(BackendKind::kReferenceDouble, NumericProfile::kExact).run(tokens, scales);
  const std::vector<float> actual = SteeredModel(BackendKind::kCpu, NumericProfile::kExact).run(tokens, scales);
  ASSERT_EQ(actual.size(), expected.size());
  double square = 0;
  for (const float logit : expected) square += double{logit} * logit;
  const double allowed = 2e-4 * std::sqrt(square / static_cast<double>(expected.size()));
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(actual[i], expected[i], allowed) << i;
}

// Keeps what is steered, and that it goes back into the streams next.
class StepOps final : public ForwardingOps {
 public:
  using ForwardingOps::ForwardingOps;

  void steer(const TensorView& x, const TensorView& direction, const TensorView& scales) override {
    ForwardingOps::steer(x, direction, scales);
    steered_ = x.f32();
    directions.push_back(direction.f32());
  }
  void hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) override {
    EXPECT_TRUE(steered_ == nullptr || steered_ == y.f32());
    sites.push_back(steered_ == nullptr ? '.' : 'x');
    steered_ = nullptr;
    ForwardingOps::hc_expand(y, split, streams);
  }

  std::string sites;  // of every sub-layer in order: attention, experts, and so on
  std::vector<const float*> directions;

 private:
  const float* steered_ = nullptr;
};

TEST(SteeredForwardTest, OutputsOfAttentionAndExpertsAreSteeredWithTheLayersDirection) {
  SteeredModel model(BackendKind::kCpu);
  StepOps ops(model.loaded.backend->ops());
  BackendWithOps watched(*model.loaded.backend, ops);
  const auto forward = ForwardPass::create(watched, *model.loaded.model, *model.loaded.cache,
                                           model.loaded.forward->limits(), model.steering.get())
                           .take_value();
  const auto tokens = tiny_tokens(5, 1);
  const std::vector<std::pair<SteeringScales, std::string>> cases{{{}, "........"},
                                                                  {{.attn = 1.0F}, "x.x.x.x."},
                                                                  {{.ffn = 1.0F}, ".x.x.x.x"},
                                                                  {{.attn = 1.0F, .ffn = 1.0F}, "xxxxxxxx"}};
  for (const auto& [scales, expected] : cases) {
    ops.sites.clear();
    ops.directions.clear();
    KvState kv = model.loaded.new_sequence();
    const SequenceInput input{&kv, tokens, LogitsWanted::kLast, scales};
    ASSERT_TRUE(forward->run(std::span(&input, 1)).ok());
    EXPECT_EQ(ops.sites, expected);
    const size_t n_per_layer = ops.directions.size() / kLayers;
    for (size_t i = 0; i < ops.directions.size(); ++i)
      EXPECT_EQ(ops.directions[i], model.steering->direction(static_cast<int32_t>(i / n_per_layer)).f32());
  }
}

}  // namespace
}  // namespace ds4::test
