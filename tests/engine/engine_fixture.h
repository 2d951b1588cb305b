#pragma once

// The parts of an engine over the tiny model, put together with limits that a test chooses, and requests for it.

#include <memory>
#include <string_view>
#include <vector>

#include "backends/backend.h"
#include "engine/engine.h"
#include "engine/scheduler.h"
#include "support/recording_sink.h"

namespace ds4::test {

struct TinyEngineOptions {
  KvLimits kv{.n_slots = 4, .ctx_tokens = 600, .n_pages = 0};
  int32_t prefill_chunk_tokens = 32;
  bool remembers = false;  // has a SessionStore
  CheckpointSpacing spacing;
  std::string steering_file;  // empty: no directions
};

struct TinyEngine {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Model> model;
  std::unique_ptr<Steering> steering;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<ForwardPass> forward;
  std::unique_ptr<SessionStore> sessions;
  std::unique_ptr<Scheduler> scheduler;

  explicit TinyEngine(const TinyEngineOptions& options = {});
};

// A greedy request with token ids as output; its sink can be looked at from the test.
struct TinyRequest {
  std::shared_ptr<RecordingSink> sink = std::make_shared<RecordingSink>();
  std::shared_ptr<std::atomic<bool>> cancel = std::make_shared<std::atomic<bool>>(false);
  GenerateRequest request;

  TinyRequest(std::vector<int32_t> prompt, int32_t max_tokens);
  void submit(Scheduler& scheduler) const { scheduler.submit(request); }
};

// Directions for the tiny model, of length one, in a file of that name.
std::string write_tiny_directions(const std::string& name, uint64_t seed = 1);

// n tokens that depend on the seed.
std::vector<int32_t> some_tokens(int32_t n, uint64_t seed);

}  // namespace ds4::test
