#pragma once

// Decides what the model computes next. step() is one forward pass: the decode rows of all live sequences plus one
// bounded chunk of prompt, which the prefilling sequences take in turns, so a short prompt never waits for a long one.
// What a sequence gets does not depend on its neighbours. No threads and no clock inside: the same submissions between
// the same steps give the same events. Used by one thread: the engine thread, or a test.

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "base/rng.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "model/forward.h"
#include "model/kv_cache.h"

namespace ds4 {

struct SchedulerOptions {
  int32_t prefill_chunk_tokens = 512;
  int32_t n_vocab = 0;      // ids that a prompt may hold, and logits per row
  uint64_t first_seed = 1;  // requests without a seed take seeds derived from it, in order
};

class Scheduler {
 public:
  // Precondition: forward's limits hold a chunk and one row per slot. All must outlive the scheduler;
  // the cache's sequences are its alone.
  Scheduler(ForwardPass& forward, KvCache& cache, const Tokenizer* tokenizer, const SchedulerOptions& options);

  // Gives the request a free slot or queues it; the caller bounds the queue (n_waiting). An impossible one fails at
  // once, through its sink.
  void submit(GenerateRequest request);

  // One forward pass, if there is anything to run. False: nothing is left to do.
  bool step();

  // Ends everything, queued or running, as cancelled.
  void cancel_all();

  size_t n_waiting() const { return waiting_.size(); }
  size_t n_running() const { return running_.size(); }

 private:
  // A sequence's part of the current step.
  struct Part {
    Sequence* sequence;
    int32_t n_tokens;
    bool wants_logits;
  };

  Result<void> check(const GenerateRequest& request) const;
  void drop_cancelled();
  void admit();
  void choose_parts();
  int32_t add_part(Sequence& sequence, int32_t max_tokens);
  void run_parts();

  ForwardPass& forward_;
  KvCache& cache_;
  SequenceContext context_;
  SchedulerOptions options_;
  Xorshift64Star seeds_;
  std::deque<GenerateRequest> waiting_;
  std::deque<std::unique_ptr<Sequence>> running_;  // the next one to prefill first
  std::vector<Part> parts_;
  std::vector<SequenceInput> inputs_;
};

}  // namespace ds4
