#include "session/session_store.h"

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace ds4 {
namespace {

using test::some_tokens;

// A store over the tiny model, and a sequence that runs what a test tells it.
class SessionStoreTest : public testing::Test {
 protected:
  explicit SessionStoreTest(SessionOptions options = {.min_tokens = 1})
      : engine_({.kv = {.n_slots = 3, .ctx_tokens = 2000, .n_pages = 24}, .prefill_chunk_tokens = 256}),
        store_(*engine_.cache, engine_.tokenizer.get(), options) {}

  // Runs tokens [kv.n_tokens(), n_tokens) of them; the logits after the last.
  std::vector<float> run(KvState& kv, std::span<const int32_t> tokens) {
    std::vector<float> last;
    while (static_cast<size_t>(kv.n_tokens()) < tokens.size()) {
      const auto done = static_cast<size_t>(kv.n_tokens());
      const SequenceInput input{&kv, tokens.subspan(done, std::min<size_t>(256, tokens.size() - done))};
      const auto logits = engine_.forward->run(std::span(&input, 1));
      EXPECT_TRUE(logits.ok());
      last.assign(logits.value().begin(), logits.value().end());
    }
    return last;
  }
  // Runs and remembers.
  void remember(const std::vector<int32_t>& tokens, CheckpointReason reason = CheckpointReason::kTurnEnd,
                bool before_control = false) {
    KvState kv = engine_.cache->new_sequence().take_value();
    run(kv, tokens);
    store_.save(tokens, before_control, reason, kv);
  }
  RestoredPrefix restore(std::vector<int32_t> prompt, PrefixKind kind = PrefixKind::kSameText) {
    KvState kv = engine_.cache->new_sequence().take_value();
    const RestoredPrefix restored = store_.restore(prompt, kv, kind, 1999);
    EXPECT_EQ(kv.n_tokens(), restored.n_tokens);
    KvState fresh = engine_.cache->new_sequence().take_value();
    EXPECT_EQ(run(kv, prompt), run(fresh, prompt)) << "after " << restored.n_tokens << " restored tokens";
    return restored;
  }
  static std::vector<int32_t> join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  test::TinyEngine engine_;
  SessionStore store_;
};

TEST_F(SessionStoreTest, TheLongestPrefixWins) {
  const std::vector<int32_t> tokens = some_tokens(700, 1);
  for (const size_t n : {100U, 256U, 300U, 511U, 513U, 600U})
    remember({tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n)});
  for (const auto& [n_prompt, n_expected] : std::vector<std::pair<size_t, int32_t>>{
           {100, 0}, {101, 100}, {256, 100}, {257, 256}, {301, 300}, {512, 511}, {514, 513}, {600, 513}, {700, 600}}) {
    const std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n_prompt));
    EXPECT_EQ(restore(prompt).n_tokens, n_expected) << n_prompt;
  }
  std::vector<int32_t> edited = tokens;
  edited[400] = (edited[400] + 1) % 256;
  EXPECT_EQ(restore(edited).n_tokens, 300);
}

TEST_F(SessionStoreTest, NothingIsFoundWhereNothingFits) {
  EXPECT_EQ(restore(some_tokens(50, 1)).n_tokens, 0);
  remember(some_tokens(50, 1));
  EXPECT_EQ(restore(some_tokens(80, 2)).n_tokens, 0);
}

TEST_F(SessionStoreTest, ConversationsShareThePagesOfTheirCommonStart) {
  const std::vector<int32_t> start = some_tokens(512, 1);
  remember(join(start, some_tokens(10, 2)));
  const int32_t n_free = engine_.cache->n_free_pages();
  remember(join(start, some_tokens(10, 3)));
  EXPECT_EQ(engine_.cache->n_free_pages(), n_free - 1) << "only the last page is its own";
}

TEST_F(SessionStoreTest, RoomIsMadeByForgetting) {
  for (uint64_t i = 0; i < 6; ++i) remember(some_tokens(512, i));
  EXPECT_EQ(engine_.cache->n_free_pages(), 12);
  EXPECT_TRUE(store_.make_room(20));
  EXPECT_GE(engine_.cache->n_free_pages(), 20);
  EXPECT_EQ(store_.index().n_in_memory(), 2U);
  EXPECT_TRUE(store_.make_room(24));
  EXPECT_FALSE(store_.make_room(25));
}

TEST_F(SessionStoreTest, WhatIsUsedStays) {
  for (uint64_t i = 0; i < 6; ++i) remember(some_tokens(512, i));
  for (int n = 0; n < 3; ++n) restore(join(some_tokens(512, 0), {1, 2}));
  ASSERT_TRUE(store_.make_room(22));
  EXPECT_EQ(restore(join(some_tokens(512, 0), {1, 2})).n_tokens, 512);
}

TEST_F(SessionStoreTest, ThinningKeepsTheEndAndStepsTowardsIt) {
  const std::vector<int32_t> tokens = some_tokens(1500, 1);
  KvState kv = engine_.cache->new_sequence().take_value();
  for (size_t n = 50; n <= tokens.size(); n += 50) {
    run(kv, std::span(tokens).first(n));
    store_.save(std::span(tokens).first(n), false,
                n == tokens.size() ? CheckpointReason::kTurnEnd : CheckpointReason::kInterval, kv);
  }
  while (store_.index().n_in_memory() > 6) ASSERT_NE(const_cast<PrefixIndex&>(store_.index()).evict(false), nullptr);
  // The end is still there, and what is left is spread: no gap is half of the conversation.
  EXPECT_EQ(restore(join(tokens, {5})).n_tokens, 1500);
  int32_t previous = 0;
  for (int32_t n = 100; n <= 1500; n += 100) {
    const std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + n);
    const int32_t found = restore(prompt).n_tokens;
    EXPECT_LE(found - previous, 750);
    previous = found;
  }
}

TEST_F(SessionStoreTest, WhereAConversationStandsOutweighsItsPast) {
  const std::vector<int32_t> tokens = some_tokens(930, 1);
  KvState kv = engine_.cache->new_sequence().take_value();
  // The last turn was short, those before it were long.
  for (const auto& [n, reason] :
       {std::pair(300U, CheckpointReason::kTurnEnd), std::pair(600U, CheckpointReason::kPromptEnd),
        std::pair(700U, CheckpointReason::kTurnEnd), std::pair(930U, CheckpointReason::kPromptEnd)}) {
    run(kv, std::span(tokens).first(n));
    store_.save(std::span(tokens).first(n), false, reason, kv);
  }
  run(kv, tokens);
  auto& index = const_cast<PrefixIndex&>(store_.index());
  remember(join({tokens.begin(), tokens.begin() + 920}, some_tokens(40, 2)), CheckpointReason::kPromptEnd);
  while (index.n_in_memory() > 2) ASSERT_NE(index.evict(false), nullptr);
  EXPECT_EQ(restore(join(tokens, {5})).n_tokens, 930);
  EXPECT_EQ(restore(join(join({tokens.begin(), tokens.begin() + 920}, some_tokens(40, 2)), {5})).n_tokens, 960);
}

TEST_F(SessionStoreTest, CountsWhatItDoes) {
  remember(some_tokens(300, 1));
  remember(some_tokens(300, 1));
  remember(some_tokens(512, 2));
  restore(join(some_tokens(300, 1), {5}));
  restore(some_tokens(100, 9));
  const SessionStatistics& statistics = store_.statistics();
  EXPECT_EQ(statistics.n_saved, 2) << "the same state is kept once";
  EXPECT_EQ(statistics.n_restored, 1);
  EXPECT_EQ(statistics.n_loaded, 0);
  EXPECT_EQ(statistics.saved_frontier_bytes, store_.index().frontier_bytes());
  EXPECT_GT(2 * statistics.most_frontier_bytes, statistics.saved_frontier_bytes);
  EXPECT_EQ(statistics.save_us, 0) << "no clock was given";
}

class SmallSessionStoreTest : public SessionStoreTest {
 protected:
  SmallSessionStoreTest() : SessionStoreTest({.max_frontier_bytes = 100'000, .min_tokens = 20}) {}
};

TEST_F(SmallSessionStoreTest, FrontiersStayInTheirBudgetAndShortStatesAreLeft) {
  remember(some_tokens(19, 1));
  EXPECT_EQ(store_.index().size(), 0U);
  for (uint64_t i = 0; i < 40; ++i) {
    remember(some_tokens(60, i));
    EXPECT_LE(store_.index().frontier_bytes(), 100'000U);
  }
  EXPECT_GT(store_.index().size(), 0U);
}

// A vocabulary with merges: what was sampled byte by byte comes back in other tokens.
TEST(SameTextTest, AnAnswerMatchesAtTheNextControlTokenHoweverItIsCut) {
  const auto engine =
      Engine::load(
          {.model_path = DS4_SOURCE_DIR "/models/ds4-mini.gguf", .ctx_tokens = 512, .n_slots = 2, .n_threads = 1})
          .take_value();
  const Tokenizer& tokenizer = *engine->tokenizer();
  SessionStore store(engine->kv_cache(), &tokenizer, {});
  const auto add_text = [&](std::vector<int32_t>& tokens, std::string_view text, bool by_bytes) {
    for (size_t at = 0; at < text.size(); at += by_bytes ? 1 : text.size()) {
      const auto ids = tokenizer.encode_text(text.substr(at, by_bytes ? 1 : text.size()));
      tokens.insert(tokens.end(), ids.begin(), ids.end());
    }
  };
  const auto conversation = [&](bool by_bytes) {
    std::vector<int32_t> tokens{*tokenizer.control_id(ControlToken::kBos), *tokenizer.control_id(ControlToken::kUser)};
    add_text(tokens, "Tell me about the colours of the rainbow, please.", false);
    tokens.push_back(*tokenizer.control_id(ControlToken::kAssistant));
    add_text(tokens, "Red, orange, yellow, green, blue, indigo and violet.", by_bytes);
    return tokens;
  };
  const std::vector<int32_t> sampled = conversation(true);
  std::vector<int32_t> prompt = conversation(false);
  const size_t n_answered = prompt.size();
  prompt.push_back(tokenizer.eos_id());
  add_text(prompt, "And then?", false);
  const size_t n_rest = prompt.size() - n_answered;
  ASSERT_GT(sampled.size(), n_answered);

  KvState kv = engine->kv_cache().new_sequence().take_value();
  const SequenceInput input{&kv, sampled};
  ASSERT_TRUE(engine->forward().run(std::span(&input, 1)).ok());
  store.save(sampled, true, CheckpointReason::kTurnEnd, kv);
  KvState other = engine->kv_cache().new_sequence().take_value();

  std::vector<int32_t> exact = prompt;
  EXPECT_EQ(store.restore(exact, other, PrefixKind::kSameTokens, 511).n_tokens, 0);
  std::vector<int32_t> too_long = prompt;
  EXPECT_EQ(store.restore(too_long, other, PrefixKind::kSameText, sampled.size() + n_rest - 1).n_tokens, 0);

  const RestoredPrefix restored = store.restore(prompt, other, PrefixKind::kSameText, 511);
  EXPECT_EQ(restored.n_tokens, static_cast<int32_t>(sampled.size()));
  EXPECT_EQ(restored.n_prompt_tokens, static_cast<int32_t>(n_answered));
  ASSERT_EQ(prompt.size(), sampled.size() + n_rest);
  EXPECT_TRUE(std::equal(sampled.begin(), sampled.end(), prompt.begin()))
      << "the prompt takes the tokens that were run";
}

}  // namespace
}  // namespace ds4
