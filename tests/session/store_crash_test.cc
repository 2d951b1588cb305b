// A process that writes to a disk store without pause is killed at random moments. DS4_CRASH_ROUNDS=500 kills more
// often than the default.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "session/disk_store.h"
#include "session/store_content.h"

namespace ds4 {
namespace {

using test::Conversation;

constexpr int kConversations = 40;
constexpr int kMostTokens = 120;

struct Flushed {
  int32_t conversation;
  int32_t n_tokens;
};

class StoreCrashTest : public ::testing::Test {
 protected:
  StoreCrashTest() {
    std::string pattern = ::testing::TempDir() + "ds4_store_crash_XXXXXX";
    options_ = test::MemoryStore().options;
    options_.directory = mkdtemp(pattern.data());
  }
  ~StoreCrashTest() override { std::filesystem::remove_all(options_.directory); }

  static int n_rounds() {
    constexpr int kDefaultRounds = 20;
    const char* const asked = std::getenv("DS4_CRASH_ROUNDS");
    return asked == nullptr ? kDefaultRounds : std::atoi(asked);
  }

  // Runs until it is killed; what flush() has promised goes through the pipe.
  [[noreturn]] void write_until_killed(uint64_t seed, int pipe) {
    Xorshift64Star random(seed);
    const auto below = [&random](int n) { return static_cast<int>((random.next() >> 33) % static_cast<uint64_t>(n)); };
    auto store = DiskStore::open(options_);
    if (!store.ok()) _exit(1);
    for (;;) {
      const Flushed put{below(kConversations), 1 + below(kMostTokens)};
      if (!test::put_conversation(*store.value(), Conversation(put.conversation, 40), put.n_tokens)) continue;
      store.value()->put_blob("call" + std::to_string(put.conversation),
                              test::blob_of(std::to_string(put.conversation)));
      store.value()->touch(Conversation(put.conversation, 40).checkpoint(put.n_tokens).key);
      if (below(4) == 0 && (!store.value()->flush().ok() || write(pipe, &put, sizeof(put)) != sizeof(put))) _exit(2);
    }
  }

  // What the child had flushed before it was killed.
  std::vector<Flushed> kill_a_writer(uint64_t seed) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(ends[0]);
      write_until_killed(seed, ends[1]);
    }
    close(ends[1]);
    constexpr uint64_t kLongestUs = 60'000;
    usleep(static_cast<useconds_t>(splitmix64_mix(seed) % kLongestUs));
    kill(child, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself with " << WEXITSTATUS(status);
    std::vector<Flushed> flushed;
    for (Flushed one{}; read(ends[0], &one, sizeof(one)) == sizeof(one);) flushed.push_back(one);
    close(ends[0]);
    return flushed;
  }

  // Opens the store as the next run would, and checks everything it serves.
  void check(const std::vector<Flushed>& flushed, bool all_fit) {
    auto store = DiskStore::open(options_);
    ASSERT_TRUE(store.ok()) << store.error().message;
    EXPECT_EQ(test::check_everything(*store.value()), "");
    for (int i = 0; i < kConversations; ++i) {
      const std::string expected = test::blob_of(std::to_string(i));
      EXPECT_EQ(store.value()->find_blob("call" + std::to_string(i)).value_or(expected), expected);
    }
    EXPECT_LE(disk_bytes(), options_.budget_bytes);
    if (!all_fit) return;
    for (const Flushed& one : flushed) {
      const Conversation conversation(one.conversation, 40);
      EXPECT_EQ(test::check_restore(*store.value(), conversation.checkpoint(one.n_tokens)), "");
      EXPECT_TRUE(store.value()->find_blob("call" + std::to_string(one.conversation)));
    }
  }

  uint64_t disk_bytes() const {
    uint64_t total = 0;
    for (const auto& entry : std::filesystem::directory_iterator(options_.directory)) total += entry.file_size();
    return total;
  }

  DiskStoreOptions options_;
};

TEST_F(StoreCrashTest, WhatWasFlushedSurvivesAKill) {
  options_.budget_bytes = uint64_t{1} << 30;
  options_.segment_bytes = 100'000;
  size_t n_flushed = 0;
  for (int round = 0; round < n_rounds(); ++round) {
    const auto flushed = kill_a_writer(static_cast<uint64_t>(round) + 1);
    n_flushed += flushed.size();
    check(flushed, true);
    ASSERT_FALSE(HasFailure()) << round;
  }
  EXPECT_GT(n_flushed, 0u);
}

TEST_F(StoreCrashTest, AKillWhileEvictingAndCompactingLeavesNoWrongByte) {
  options_.budget_bytes = 200'000;
  options_.segment_bytes = 10'000;
  for (int round = 0; round < n_rounds(); ++round) {
    check(kill_a_writer(static_cast<uint64_t>(round) + 1000), false);
    ASSERT_FALSE(HasFailure()) << round;
  }
}

// The system writes only a part of what it is given, and then refuses.
TEST_F(StoreCrashTest, ShortWritesOfTheSystemAreNoDamage) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{5500, 5500};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
    auto store = DiskStore::open(options_).take_value();
    if (!test::put_conversation(*store, Conversation(1), 80)) _exit(2);
    const auto flushed = store->flush();
    if (flushed.ok() || flushed.error().message.find("File too large") == std::string::npos) _exit(3);
    if (!test::check_everything(*store).empty()) _exit(4);
    store.reset();
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  const auto store = DiskStore::open(options_).take_value();
  EXPECT_GE(store->statistics().n_pages, 4) << "as many as fit into one file";
  EXPECT_TRUE(store->take_notices().empty());
  std::vector<std::byte> payload(test::kPageBytes);
  for (int i = 0; i < store->statistics().n_pages; ++i) {
    EXPECT_TRUE(store->read_page(Conversation(1).page(i).key, payload).ok());
    EXPECT_EQ(payload, test::payload_of(Conversation(1).page(i).key, payload.size()));
  }
}

}  // namespace
}  // namespace ds4
