// The exact profile against an independent implementation (tests/vectors/README.md): logits within 2e-4 of their root
// mean square, the same greedy token at every position, and the streams between layers.

#include <cmath>

#include <gtest/gtest.h>

#include "backends/cpu/cpu_ops.h"
#include "backends/host_backend.h"
#include "model/kv_layout.h"
#include "model/model_fixture.h"
#include "model/oracle_tie.h"
#include "ops/reference_ops.h"

namespace ds4::test {

namespace {

constexpr double kLogitTolerance = 2e-4;  // of the logit rms, as the vectors' own two runs differ by 1e-5

struct Case {
  const char* name;
  BackendKind backend;
};

class GoldenLogitsTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    golden_ = GoldenVectors::load(GetParam().name);
    const auto n_tokens = static_cast<int32_t>(golden_.tokens.size());
    loaded_ = LoadedModel::load(synthetic_file(golden_.name, golden_.shape), make_golden_backend(),
                                {.n_slots = 4, .ctx_tokens = n_tokens + 1, .n_pages = 0},
                                {.batch_rows = 4 * n_tokens, .logits_rows = n_tokens});
  }

  std::unique_ptr<Backend> make_golden_backend() const {
    constexpr NumericProfile kProfile = NumericProfile::kExact;
    if (golden_.name != "pro") return make_backend(GetParam().backend, kProfile);
    const KvLayout layout = KvLayout::compute(synthetic_hyperparams(golden_.shape).value(), kProfile);
    const OracleTie tie{layout.layers[2].indexer.page_bytes_offset, 304, 3, 69};
    std::unique_ptr<Ops> ops;
    switch (GetParam().backend) {
      case BackendKind::kReferenceDouble:
        ops = std::make_unique<OracleTieOps<ReferenceOps<double>>>(tie, kProfile);
        break;
      case BackendKind::kReferenceFloat:
        ops = std::make_unique<OracleTieOps<ReferenceOps<float>>>(tie, kProfile);
        break;
      case BackendKind::kCpu:
        ops = std::make_unique<OracleTieOps<CpuOps>>(tie, ThreadPoolOptions{.n_threads = 2},
                                                     cpu::kernels_of(cpu::available_isas().back()), kProfile);
        break;
    }
    return std::make_unique<HostBackend>("tie", kProfile, std::move(ops));
  }

  void expect_golden(const std::vector<float>& logits) const {
    const auto n_vocab = static_cast<size_t>(golden_.shape.vocab);
    ASSERT_EQ(logits.size(), golden_.tokens.size() * n_vocab);
    double worst = 0;
    for (size_t i = 0; i < golden_.positions.size(); ++i) {
      const float* ours = logits.data() + static_cast<size_t>(golden_.positions[i]) * n_vocab;
      for (size_t v = 0; v < n_vocab; ++v)
        worst = std::max(worst, std::fabs(double{ours[v]} - golden_.logits[i * n_vocab + v]));
    }
    EXPECT_LE(worst, kLogitTolerance * golden_.logit_rms);
    RecordProperty("worst_over_rms", std::to_string(worst / golden_.logit_rms));
    size_t n_different = 0;
    for (size_t i = 0; i < golden_.tokens.size(); ++i) {
      n_different += argmax(logits.data() + i * n_vocab, golden_.shape.vocab) != golden_.argmax_all[i] ? 1 : 0;
    }
    EXPECT_EQ(n_different, 0u);
  }

  GoldenVectors golden_;
  LoadedModel loaded_;
};

TEST_P(GoldenLogitsTest, WholePrefillMatchesLogitsAndStreams) {
  KvState kv = loaded_.new_sequence();
  const SequenceInput input{&kv, golden_.tokens, LogitsWanted::kAll};
  ASSERT_TRUE(loaded_.forward->begin(std::span(&input, 1)).ok());
  const auto n_layers = static_cast<int32_t>(golden_.shape.ratios.size());
  const auto row_values = static_cast<size_t>(4 * golden_.shape.hidden);
  const float* expected = golden_.streams.data();
  for (int32_t layer = 0; layer <= n_layers; ++layer) {
    double difference = 0;
    double magnitude = 0;
    const std::vector<float> streams = loaded_.streams();
    for (const int32_t position : golden_.stream_positions) {
      const float* ours = streams.data() + static_cast<size_t>(position) * row_values;
      for (size_t i = 0; i < row_values; ++i, ++expected) {
        difference = std::max(difference, std::fabs(double{ours[i]} - *expected));
        magnitude = std::max(magnitude, std::fabs(double{*expected}));
      }
    }
    // Rounding grows with depth as in the logits; streams are compared at the scale of their largest value.
    EXPECT_LE(difference, kLogitTolerance * magnitude) << "streams before layer " << layer;
    if (layer < n_layers) loaded_.forward->run_layer(layer);
  }
  const auto logits = loaded_.forward->finish();
  ASSERT_TRUE(logits.ok());
  expect_golden({logits.value().begin(), logits.value().end()});
}

class GoldenPathsTest : public GoldenLogitsTest {};

TEST_P(GoldenPathsTest, TokenByToken) {
  KvState kv = loaded_.new_sequence();
  expect_golden(loaded_.run(kv, golden_.tokens, {1}));
}

TEST_P(GoldenPathsTest, FixedChunks) {
  for (const int32_t chunk : {3, 4, 5, 127, 128, 129}) {
    SCOPED_TRACE(chunk);
    KvState kv = loaded_.new_sequence();
    expect_golden(loaded_.run(kv, golden_.tokens, {chunk}));
  }
}

TEST_P(GoldenPathsTest, RandomChunks) {
  for (int32_t seed = 0; seed < 3; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<int32_t> chunks;
    for (const int32_t value : synthetic_tokens("chunks" + std::to_string(seed), 200, 150)) chunks.push_back(value + 1);
    KvState kv = loaded_.new_sequence();
    expect_golden(loaded_.run(kv, golden_.tokens, chunks));
  }
}

TEST_P(GoldenPathsTest, BatchedWithThreeOtherSequences) {
  const auto n_vocab = static_cast<size_t>(golden_.shape.vocab);
  std::vector<KvState> states;
  std::vector<std::vector<int32_t>> tokens = {golden_.tokens};
  for (int32_t i = 0; i < 4; ++i) states.push_back(loaded_.new_sequence());
  for (int32_t i = 1; i < 4; ++i) {
    const auto n = static_cast<int32_t>(golden_.tokens.size());
    tokens.push_back(synthetic_tokens("other" + std::to_string(i), n, golden_.shape.vocab));
  }
  // Different strides per sequence, so that steps mix decode rows and prefill chunks; the golden one comes third.
  const size_t strides[4] = {7, 1, 130, 16};
  const size_t order[4] = {1, 2, 0, 3};
  size_t done[4] = {};
  std::vector<float> logits;
  while (done[0] < golden_.tokens.size()) {
    std::vector<SequenceInput> inputs;
    for (const size_t s : order) {
      const size_t n = std::min(strides[s], tokens[s].size() - done[s]);
      if (n == 0) continue;
      inputs.push_back(
          {&states[s], std::span(tokens[s]).subspan(done[s], n), s == 0 ? LogitsWanted::kAll : LogitsWanted::kNone});
      done[s] += n;
    }
    const auto rows = loaded_.forward->run(inputs);
    ASSERT_TRUE(rows.ok()) << rows.error().message;
    logits.insert(logits.end(), rows.value().begin(), rows.value().end());
  }
  ASSERT_EQ(logits.size(), golden_.tokens.size() * n_vocab);
  expect_golden(logits);
}

using enum BackendKind;

std::vector<Case> cases_of(std::initializer_list<const char*> names, std::initializer_list<BackendKind> kinds) {
  std::vector<Case> cases;
  for (const char* name : names) {
    for (const BackendKind kind : kinds) cases.push_back({name, kind});
  }
  return cases;
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name) + backend_kind_name(info.param.backend);
}

#ifdef DS4_SANITIZED
// Sanitizers make everything many times slower; the smallest shape has every kind of layer too.
INSTANTIATE_TEST_SUITE_P(Shapes, GoldenLogitsTest,
                         ::testing::ValuesIn(cases_of({"tiny"}, {kReferenceDouble, kReferenceFloat, kCpu})), case_name);
INSTANTIATE_TEST_SUITE_P(Shapes, GoldenPathsTest, ::testing::ValuesIn(cases_of({"tiny"}, {kCpu})), case_name);
#else
INSTANTIATE_TEST_SUITE_P(Shapes, GoldenLogitsTest,
                         ::testing::ValuesIn(cases_of({"tiny", "mini", "pro"},
                                                      {kReferenceDouble, kReferenceFloat, kCpu})),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Shapes, GoldenPathsTest, ::testing::ValuesIn(cases_of({"tiny", "mini", "pro"}, {kCpu})),
                         case_name);
INSTANTIATE_TEST_SUITE_P(References, GoldenPathsTest,
                         ::testing::ValuesIn(cases_of({"tiny"}, {kReferenceDouble, kReferenceFloat})), case_name);
// Minutes of the reference: --gtest_also_run_disabled_tests --gtest_filter='*Heavy*'
INSTANTIATE_TEST_SUITE_P(DISABLED_Heavy, GoldenPathsTest,
                         ::testing::ValuesIn(cases_of({"mini", "pro"}, {kReferenceDouble, kReferenceFloat})),
                         case_name);
#endif

}  // namespace

}  // namespace ds4::test
