// What must not matter does not: how a prompt is cut into chunks, what else is in the batch, how many threads run, and
// whether a state was rolled back, forked or computed straight. On the CPU backend all of it bit for bit.

#include <gtest/gtest.h>

#include <memory>

#include "model/model_fixture.h"

namespace ds4::test {

namespace {

constexpr int32_t kTokens = 300;  // crosses two windows of ratio 128 and a page
#ifdef DS4_SANITIZED
constexpr std::ptrdiff_t kLengthStep = 13;
#else
constexpr std::ptrdiff_t kLengthStep = 1;
#endif

class InvarianceTest : public ::testing::TestWithParam<NumericProfile> {
 protected:
  void SetUp() override { loaded_ = load(2); }

  static LoadedModel load(int threads) {
    return LoadedModel::load(
        synthetic_file("invariance", tiny_shape()), make_backend(BackendKind::kCpu, GetParam(), threads),
        {.n_slots = 4, .ctx_tokens = 1024, .n_pages = 0}, {.batch_rows = 2 * kTokens, .logits_rows = kTokens});
  }

  std::vector<float> run(const std::vector<int32_t>& tokens, const std::vector<int32_t>& chunks) const {
    KvState kv = loaded_.new_sequence();
    return loaded_.run(kv, tokens, chunks);
  }

  std::vector<float> last_row(const std::vector<float>& logits) const {
    return {logits.end() - tiny_shape().vocab, logits.end()};
  }

  LoadedModel loaded_;
};

std::vector<int32_t> slice(const std::vector<int32_t>& tokens, size_t first, size_t last) {
  return {tokens.begin() + static_cast<std::ptrdiff_t>(first), tokens.begin() + static_cast<std::ptrdiff_t>(last)};
}

TEST_P(InvarianceTest, ChunkedEqualsWhole) {
  const auto tokens = tiny_tokens(kTokens, 1);
  const auto whole = run(tokens, {kTokens});
  for (const std::vector<int32_t>& chunks : {std::vector<int32_t>{1},
                                             {3},
                                             {4},
                                             {5},
                                             {127},
                                             {128},
                                             {129},
                                             {1, 1, 1, 1, 1, 1, 1, 1, 1, 250},
                                             {2, 126, 3, 125, 1}}) {
    EXPECT_EQ(run(tokens, chunks), whole) << "first chunk " << chunks[0];
  }
}

TEST_P(InvarianceTest, EveryPromptLengthEqualsTheLongRunsPrefix) {
  const auto tokens = tiny_tokens(kTokens, 2);
  const auto whole = run(tokens, {kTokens});
  const auto n_vocab = static_cast<std::ptrdiff_t>(tiny_shape().vocab);
  for (std::ptrdiff_t n = 1; n <= kTokens; n += kLengthStep) {
    KvState kv = loaded_.new_sequence();
    const SequenceInput input{&kv, std::span(tokens).first(static_cast<size_t>(n)), LogitsWanted::kLast};
    const auto logits = loaded_.forward->run(std::span(&input, 1));
    ASSERT_TRUE(logits.ok());
    const std::vector<float> got(logits.value().begin(), logits.value().end());
    ASSERT_EQ(got, std::vector<float>(whole.begin() + (n - 1) * n_vocab, whole.begin() + n * n_vocab))
        << "length " << n;
  }
}

TEST_P(InvarianceTest, BatchedEqualsAlone) {
  const size_t strides[3] = {1, 5, 64};
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<float>> together(3);
  std::vector<KvState> states;
  for (int32_t s = 0; s < 3; ++s) {
    tokens.push_back(tiny_tokens(kTokens, 10 + s));
    states.push_back(loaded_.new_sequence());
  }
  size_t done[3] = {};
  while (done[0] < static_cast<size_t>(kTokens)) {
    std::vector<SequenceInput> inputs;
    std::vector<size_t> members;
    for (size_t s = 0; s < 3; ++s) {
      const size_t n = std::min(strides[s], tokens[s].size() - done[s]);
      if (n == 0) continue;
      inputs.push_back({&states[s], std::span(tokens[s]).subspan(done[s], n), LogitsWanted::kAll});
      members.push_back(s);
      done[s] += n;
    }
    const auto rows = loaded_.forward->run(inputs);
    ASSERT_TRUE(rows.ok());
    size_t offset = 0;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const size_t n = inputs[i].tokens.size() * static_cast<size_t>(tiny_shape().vocab);
      const auto part = rows.value().subspan(offset, n);
      together[members[i]].insert(together[members[i]].end(), part.begin(), part.end());
      offset += n;
    }
  }
  states.clear();
  for (size_t s = 0; s < 3; ++s) EXPECT_EQ(together[s], run(tokens[s], {kTokens})) << "sequence " << s;
}

TEST_P(InvarianceTest, ThreadCountDoesNotShow) {
  const auto tokens = tiny_tokens(150, 3);
  const LoadedModel single = load(1);
  const LoadedModel triple = load(3);
  KvState a = single.new_sequence();
  KvState b = triple.new_sequence();
  EXPECT_EQ(single.run(a, tokens, {40}), triple.run(b, tokens, {40}));
}

TEST_P(InvarianceTest, RolledBackEqualsFresh) {
  const auto tokens = tiny_tokens(kTokens, 4);
  const auto other = tiny_tokens(kTokens, 5);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{3}, size_t{4}, size_t{6}, size_t{127}, size_t{128}, size_t{130},
                           size_t{255}, size_t{256}, size_t{257}}) {
    SCOPED_TRACE(cut);
    KvState kv = loaded_.new_sequence();
    if (cut > 0) loaded_.run(kv, slice(tokens, 0, cut), {50});
    const KvCheckpoint checkpoint = kv.checkpoint();
    loaded_.run(kv, slice(other, 0, 40), {7});  // goes on with something else ...
    kv.restore(checkpoint);                     // ... and back
    EXPECT_EQ(kv.n_tokens(), static_cast<int32_t>(cut));
    const auto resumed = loaded_.run(kv, slice(tokens, cut, kTokens), {33});
    EXPECT_EQ(last_row(resumed), last_row(run(tokens, {kTokens})));
  }
}

// A checkpoint holds the live parts of a frontier only; whatever else the slot held before must not show.
TEST_P(InvarianceTest, RestoredAtEveryLengthEqualsContinuous) {
  constexpr size_t kNext = 9;
  const auto tokens = tiny_tokens(kTokens, 10);
  const auto whole = run(tokens, {kTokens});
  const auto n_vocab = static_cast<std::ptrdiff_t>(tiny_shape().vocab);
  KvState trunk = loaded_.new_sequence();
  KvState other = loaded_.new_sequence();
  loaded_.run(other, tiny_tokens(kTokens, 11), {kTokens});
  for (size_t cut = 1; cut + kNext <= tokens.size(); ++cut) {
    loaded_.run(trunk, slice(tokens, cut - 1, cut), {1});
    if (cut % kLengthStep != 0) continue;
    other.restore(trunk.checkpoint());
    const auto resumed = loaded_.run(other, slice(tokens, cut, cut + kNext), {static_cast<int32_t>(kNext)});
    const auto first = whole.begin() + static_cast<std::ptrdiff_t>(cut) * n_vocab;
    ASSERT_EQ(resumed, std::vector<float>(first, first + static_cast<std::ptrdiff_t>(kNext) * n_vocab)) << cut;
  }
}

TEST_P(InvarianceTest, ForkedEqualsContinuous) {
  const auto prefix = tiny_tokens(190, 6);
  KvState trunk = loaded_.new_sequence();
  loaded_.run(trunk, prefix, {64});
  const KvCheckpoint checkpoint = trunk.checkpoint();
  KvState fork = loaded_.new_sequence();
  fork.restore(checkpoint);
  // Both write rows into the page they share: the first writer must get a page of its own.
  auto left = prefix;
  auto right = prefix;
  for (const int32_t token : tiny_tokens(100, 7)) left.push_back(token);
  for (const int32_t token : tiny_tokens(100, 8)) right.push_back(token);
  const auto left_end = loaded_.run(trunk, slice(left, 190, 290), {9});
  const auto right_end = loaded_.run(fork, slice(right, 190, 290), {11});
  EXPECT_EQ(last_row(left_end), last_row(run(left, {kTokens})));
  EXPECT_EQ(last_row(right_end), last_row(run(right, {kTokens})));
  KvState again = loaded_.new_sequence();
  again.restore(checkpoint);
  EXPECT_EQ(last_row(loaded_.run(again, slice(left, 190, 290), {100})), last_row(left_end));
}

TEST_P(InvarianceTest, PagesAndSlotsReturnWhenSequencesEnd) {
  const int32_t n_pages = loaded_.cache->n_free_pages();
  const int32_t n_slots = loaded_.cache->n_free_slots();
  {
    KvState kv = loaded_.new_sequence();
    loaded_.run(kv, tiny_tokens(kTokens, 9), {kTokens});
    const KvCheckpoint checkpoint = kv.checkpoint();
    EXPECT_EQ(loaded_.cache->n_free_pages(), n_pages - 2);
    kv.clear();
    EXPECT_EQ(loaded_.cache->n_free_pages(), n_pages - 2);  // the checkpoint still holds them
    KvState moved = std::move(kv);
    moved.restore(checkpoint);
  }
  EXPECT_EQ(loaded_.cache->n_free_pages(), n_pages);
  EXPECT_EQ(loaded_.cache->n_free_slots(), n_slots);
}

INSTANTIATE_TEST_SUITE_P(Profiles, InvarianceTest,
                         ::testing::Values(NumericProfile::kExact, NumericProfile::kCanonical),
                         [](const auto& parameter) {
                           return parameter.param == NumericProfile::kExact ? "Exact" : "Canonical";
                         });

// The fast backend against the oracle where the profile rounds: a value at a rounding boundary may fall to either side
// and, in a random model, move logits by far more than the arithmetic's own error; typical rows must agree closely.
TEST(ProfileTest, CpuFollowsTheCanonicalReference) {
  const auto tokens = tiny_tokens(200, 20);
  std::vector<std::vector<float>> logits;
  for (const BackendKind kind : {BackendKind::kReferenceDouble, BackendKind::kCpu}) {
    const LoadedModel loaded =
        LoadedModel::load(synthetic_file("invariance", tiny_shape()), make_backend(kind, NumericProfile::kCanonical),
                          {.n_slots = 1, .ctx_tokens = 256, .n_pages = 0}, {.batch_rows = 200, .logits_rows = 200});
    KvState kv = loaded.new_sequence();
    logits.push_back(loaded.run(kv, tokens, {200}));
  }
  const auto n_vocab = static_cast<size_t>(tiny_shape().vocab);
  std::vector<double> differences;
  for (size_t row = 0; row < tokens.size(); ++row) {
    double worst = 0;
    for (size_t v = 0; v < n_vocab; ++v) {
      worst = std::max(worst, std::abs(double{logits[0][row * n_vocab + v]} - double{logits[1][row * n_vocab + v]}));
    }
    differences.push_back(worst);
  }
  std::sort(differences.begin(), differences.end());
  EXPECT_LT(differences[differences.size() / 2], 1e-3);
  EXPECT_LT(differences[differences.size() * 9 / 10], 0.1);
}

TEST(ProfileTest, CanonicalRoundsAndExactDoesNot) {
  const auto tokens = tiny_tokens(60, 21);
  std::vector<std::vector<float>> logits;
  for (const NumericProfile profile : {NumericProfile::kExact, NumericProfile::kCanonical}) {
    const LoadedModel loaded =
        LoadedModel::load(synthetic_file("invariance", tiny_shape()), make_backend(BackendKind::kCpu, profile),
                          {.n_slots = 1, .ctx_tokens = 64, .n_pages = 0}, {.batch_rows = 64, .logits_rows = 64});
    KvState kv = loaded.new_sequence();
    logits.push_back(loaded.run(kv, tokens, {64}));
  }
  EXPECT_NE(logits[0], logits[1]);
}

TEST(ForwardPassTest, RefusesTokensAndLengthsBeforeAnyWork) {
  const LoadedModel loaded = LoadedModel::load(
      synthetic_file("invariance", tiny_shape()), make_backend(BackendKind::kCpu, NumericProfile::kExact),
      {.n_slots = 1, .ctx_tokens = 20, .n_pages = 0}, {.batch_rows = 64, .logits_rows = 64});
  KvState kv = loaded.new_sequence();
  EXPECT_EQ(loaded.cache->new_sequence().error().code, ErrorCode::kBusy);
  const std::vector<int32_t> outside = {5, 300};
  const SequenceInput bad_token{&kv, outside, LogitsWanted::kLast};
  const auto refused = loaded.forward->run(std::span(&bad_token, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, "token 300: expected an id from 0 to 299");
  const auto tokens = tiny_tokens(21, 22);
  const SequenceInput too_long{&kv, tokens, LogitsWanted::kLast};
  EXPECT_EQ(loaded.forward->run(std::span(&too_long, 1)).error().code, ErrorCode::kContextLength);
  EXPECT_EQ(kv.n_tokens(), 0);
}

TEST(KvCacheTest, AnEmptyPoolIsAnErrorThatChangesNothing) {
  const LoadedModel loaded = LoadedModel::load(
      synthetic_file("invariance", tiny_shape()), make_backend(BackendKind::kCpu, NumericProfile::kExact),
      {.n_slots = 2, .ctx_tokens = 1024, .n_pages = 2}, {.batch_rows = 64, .logits_rows = 64});
  KvState first = loaded.new_sequence();
  KvState second = loaded.new_sequence();
  ASSERT_TRUE(first.reserve(257).ok());
  EXPECT_EQ(second.reserve(1).error().code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(second.n_tokens(), 0);
  first.clear();
  EXPECT_TRUE(second.reserve(300).ok());
}

}  // namespace

}  // namespace ds4::test
