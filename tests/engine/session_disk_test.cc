// Conversations that outlive the process: one engine writes, another one, new, goes on from what it finds.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "engine/engine_fixture.h"
#include "engine/model_identity.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

using test::some_tokens;
using test::TinyEngine;
using test::TinyRequest;

class SessionDiskTest : public testing::Test {
 protected:
  SessionDiskTest() { std::filesystem::remove_all(directory_); }
  ~SessionDiskTest() override { std::filesystem::remove_all(directory_); }

  static constexpr SessionOptions kEverything{
      .min_tokens = 1, .disk_interval_tokens = 500, .disk_rest_tokens = 1, .disk_least_tokens = 1};

  std::unique_ptr<TinyEngine> open(Hash128 identity = {1, 2}, const SessionOptions& sessions = kEverything,
                                   uint64_t queue_bytes = uint64_t{256} << 20,
                                   uint64_t budget_bytes = uint64_t{64} << 20) const {
    auto engine = std::make_unique<TinyEngine>(
        test::TinyEngineOptions{.kv = {.n_slots = 2, .ctx_tokens = 1400, .n_pages = 40}, .prefill_chunk_tokens = 64});
    Result<std::unique_ptr<DiskStore>> disk = DiskStore::open({.directory = directory_,
                                                               .budget_bytes = budget_bytes,
                                                               .identity = identity,
                                                               .page_bytes = engine->cache->layout().page_bytes,
                                                               .queue_bytes = queue_bytes});
    EXPECT_TRUE(disk.ok()) << disk.error().message;
    engine->sessions =
        std::make_unique<SessionStore>(*engine->cache, engine->tokenizer.get(), sessions, disk.take_value());
    engine->scheduler = std::make_unique<Scheduler>(
        *engine->forward, *engine->cache, engine->tokenizer.get(), engine->sessions.get(),
        SchedulerOptions{.prefill_chunk_tokens = 64, .n_vocab = 288, .spacing = {.prompt_tokens = 250}});
    return engine;
  }
  // Tokens of the prompt that were computed.
  static size_t run(TinyEngine& engine, const TinyRequest& request) {
    request.submit(*engine.scheduler);
    while (engine.scheduler->step()) {
    }
    const Finished* finished = request.sink->last<Finished>();
    EXPECT_NE(finished, nullptr);
    return finished == nullptr ? 0 : finished->usage.prompt_tokens - finished->usage.cached_tokens;
  }
  static std::vector<int32_t> fresh_answer(const std::vector<int32_t>& prompt) {
    TinyEngine engine({.kv = {.n_slots = 1, .ctx_tokens = 1400}});
    const TinyRequest request(prompt, 8);
    run(engine, request);
    return request.sink->tokens();
  }

  const std::string directory_ = test::temporary_path("sessions");
};

TEST_F(SessionDiskTest, ARestartCostsOneTokenAtEveryLength) {
  for (const int32_t n : {1, 3, 127, 128, 129, 255, 256, 257, 511, 700}) {
    SCOPED_TRACE(n);
    const std::vector<int32_t> prompt = some_tokens(n + 1, static_cast<uint64_t>(n));
    {
      const auto engine = open();
      run(*engine, TinyRequest({prompt.begin(), prompt.end() - 1}, 0));
      engine->scheduler->finish();
    }
    const auto engine = open();
    const TinyRequest again(prompt, 8);
    EXPECT_EQ(run(*engine, again), 1U);
    EXPECT_EQ(again.sink->tokens(), fresh_answer(prompt));
  }
}

TEST_F(SessionDiskTest, TheNextTurnGoesOnAfterARestart) {
  const TinyRequest first(some_tokens(600, 1), 40);
  {
    const auto engine = open();
    run(*engine, first);
    engine->scheduler->finish();
  }
  std::vector<int32_t> next = first.request.prompt_tokens;
  for (const int32_t token : first.sink->tokens()) next.push_back(token);
  for (const int32_t token : some_tokens(20, 2)) next.push_back(token);
  const auto engine = open();
  const TinyRequest second(next, 8);
  EXPECT_EQ(run(*engine, second), 20U);
  EXPECT_EQ(second.sink->tokens(), fresh_answer(next));
}

TEST_F(SessionDiskTest, PagesAreWrittenOnce) {
  const auto engine = open();
  std::vector<int32_t> conversation = some_tokens(300, 1);
  for (uint64_t turn = 0; turn < 8; ++turn) {
    const TinyRequest request(conversation, 30);
    run(*engine, request);
    for (const int32_t token : request.sink->tokens()) conversation.push_back(token);
    for (const int32_t token : some_tokens(60, turn + 2)) conversation.push_back(token);
  }
  engine->scheduler->finish();
  const DiskStoreStatistics statistics = engine->sessions->disk()->statistics();
  EXPECT_EQ(statistics.n_pages, static_cast<int64_t>(conversation.size() - 60) / kPageTokens);
  // One where it rests and one every 500 tokens, not one a turn.
  EXPECT_LE(statistics.n_checkpoints, 4);
  EXPECT_GE(statistics.n_checkpoints, 2);
}

TEST_F(SessionDiskTest, WhatIsNotWorthItsBytesIsNotWritten) {
  const auto engine =
      open({1, 2}, {.min_tokens = 1, .disk_interval_tokens = 5000, .disk_rest_tokens = 200, .disk_least_tokens = 100});
  const auto expect_written = [&](int64_t n_checkpoints, int64_t n_pages) {
    ASSERT_TRUE(engine->sessions->flush().ok());
    const DiskStoreStatistics statistics = engine->sessions->disk()->statistics();
    EXPECT_EQ(statistics.n_checkpoints, n_checkpoints);
    EXPECT_EQ(statistics.n_pages, n_pages);
  };
  run(*engine, TinyRequest(some_tokens(90, 1), 0));
  engine->scheduler->finish();
  expect_written(0, 0);
  std::vector<int32_t> conversation = some_tokens(300, 2);
  const auto grow = [&](int32_t n, uint64_t seed) {
    for (const int32_t token : some_tokens(n, seed)) conversation.push_back(token);
    run(*engine, TinyRequest(conversation, 0));
  };
  run(*engine, TinyRequest(conversation, 0));
  expect_written(0, 1);
  engine->scheduler->rest();
  expect_written(1, 1);
  grow(150, 3);
  engine->scheduler->rest();
  expect_written(1, 1);
  engine->scheduler->finish();
  expect_written(2, 1);
  grow(90, 4);
  engine->scheduler->finish();
  expect_written(2, 2);
}

TEST_F(SessionDiskTest, AllIsWrittenAtTheEndHoweverShortTheQueueIs) {
  const std::vector<int32_t> prompt = some_tokens(1301, 1);
  {
    const auto engine = open({1, 2}, kEverything, 1);
    run(*engine, TinyRequest({prompt.begin(), prompt.end() - 1}, 0));
    engine->scheduler->finish();
    EXPECT_EQ(engine->sessions->disk()->statistics().n_pages, 5);
  }
  EXPECT_EQ(run(*open(), TinyRequest(prompt, 1)), 1U);
}

// A conversation that the disk has no room for is tried and given up, not written again and again.
TEST_F(SessionDiskTest, TheEndComesWhenTheDiskIsTooSmall) {
  const uint64_t page_bytes = TinyEngine().cache->layout().page_bytes;
  for (uint64_t n_pages = 1; n_pages <= 8; ++n_pages) {
    SCOPED_TRACE(n_pages);
    std::filesystem::remove_all(directory_);
    const auto engine = open({1, 2}, kEverything, /*queue_bytes=*/page_bytes, /*budget_bytes=*/n_pages * page_bytes);
    run(*engine, TinyRequest(some_tokens(1350, 1), 4));
    int n_tries = 1;
    while (!engine->sessions->store_resting(RestKind::kEnd)) {
      ASSERT_LE(++n_tries, 20);
      EXPECT_TRUE(engine->sessions->flush().ok());
    }
    engine->scheduler->finish();
    EXPECT_LE(engine->sessions->disk()->statistics().disk_bytes, n_pages * page_bytes);
    const TinyRequest again(some_tokens(1350, 1), 8);
    run(*engine, again);
    EXPECT_EQ(again.sink->tokens(), fresh_answer(some_tokens(1350, 1)));
  }
}

TEST_F(SessionDiskTest, AnotherModelFindsNothing) {
  const TinyRequest first(some_tokens(600, 1), 4);
  {
    const auto engine = open();
    run(*engine, first);
    engine->scheduler->finish();
  }
  const auto engine = open({1, 3});
  EXPECT_EQ(run(*engine, TinyRequest(first.request.prompt_tokens, 4)), 600U);
}

TEST_F(SessionDiskTest, DamageCostsTimeAndNothingElse) {
  const std::vector<int32_t> prompt = some_tokens(700, 1);
  {
    const auto engine = open();
    run(*engine, TinyRequest(prompt, 0));
    engine->scheduler->finish();
  }
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    if (entry.path().extension() != ".seg") continue;
    const auto size = static_cast<std::streamoff>(entry.file_size());
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    // In the payload of a page in the middle.
    file.seekp(size / 2);
    file.write("damaged", 7);
  }
  const auto engine = open();
  const TinyRequest again(prompt, 8);
  EXPECT_GT(run(*engine, again), 1U);
  EXPECT_EQ(again.sink->tokens(), fresh_answer(prompt));
}

TEST_F(SessionDiskTest, WhatIsPushedOutOfMemoryComesBackFromDisk) {
  const auto engine = open();
  const std::vector<int32_t> prompt = some_tokens(700, 1);
  run(*engine, TinyRequest({prompt.begin(), prompt.end() - 1}, 0));
  ASSERT_TRUE(engine->sessions->make_room(engine->cache->limits().n_pages)) << "forgets everything in memory";
  EXPECT_EQ(engine->sessions->index().n_in_memory(), 0U);
  const TinyRequest again(prompt, 8);
  EXPECT_EQ(run(*engine, again), 1U);
  EXPECT_EQ(again.sink->tokens(), fresh_answer(prompt));
}

TEST(ModelIdentityTest, DependsOnFileProfileAndLayout) {
  const auto file = GgufFile::open(test::tiny_model_path()).take_value();
  const auto other = GgufFile::open(test::tiny_model_path_without_vocabulary()).take_value();
  const Hyperparams hyperparams = synthetic_hyperparams(test::tiny_model_shape()).take_value();
  const KvLayout canonical = KvLayout::compute(hyperparams, NumericProfile::kCanonical);
  const KvLayout exact = KvLayout::compute(hyperparams, NumericProfile::kExact);
  const Hash128 identity = model_identity(*file, canonical, NumericProfile::kCanonical);
  EXPECT_EQ(identity, model_identity(*file, canonical, NumericProfile::kCanonical));
  EXPECT_NE(identity, model_identity(*other, canonical, NumericProfile::kCanonical));
  EXPECT_NE(identity, model_identity(*file, exact, NumericProfile::kExact));
  EXPECT_NE(identity, model_identity(*file, canonical, NumericProfile::kExact));
}

TEST(ModelIdentityTest, OneWeightMore) {
  const std::string bytes = read_file(test::tiny_model_path(), 1 << 30).value();
  std::string changed = bytes;
  changed.back() = static_cast<char>(changed.back() ^ 1);  // sampled: the file is small
  const auto a = GgufFile::from_bytes(std::as_bytes(std::span(bytes)), "a").take_value();
  const auto b = GgufFile::from_bytes(std::as_bytes(std::span(changed)), "b").take_value();
  const Hyperparams hyperparams = synthetic_hyperparams(test::tiny_model_shape()).take_value();
  const KvLayout layout = KvLayout::compute(hyperparams, NumericProfile::kCanonical);
  EXPECT_NE(model_identity(*a, layout, NumericProfile::kCanonical),
            model_identity(*b, layout, NumericProfile::kCanonical));
}

}  // namespace
}  // namespace ds4
