#pragma once

// Decides what the model computes next. step() is one forward pass: the decode rows of all live sequences plus one
// bounded chunk of prompts, which the prefilling sequences take in turns and short prompts first, so a short prompt
// never waits for a long one. A free slot goes to the client with the fewest running sequences, of those to the one
// whose last start is longest ago. A request starts from the longest remembered prefix of its prompt, and waits for one
// that another is just computing. When KV pages run short, remembered states go first, then the youngest sequence gives
// way and goes on later from where it was.
// What a sequence gets does not depend on its neighbours, nor on what is remembered of the same tokens (an answer that
// comes back as text counts in the tokens that were run). No threads and no clock inside:
// the same submissions between the same steps give the same events. Used by one thread: the engine thread, or a test.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/rng.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "session/session_store.h"

namespace ds4 {

struct SchedulerOptions {
  int32_t prefill_chunk_tokens = 512;
  // The same while answers are being written, which wait for the chunk; 0: no difference.
  int32_t mixed_chunk_tokens = 0;
  int32_t n_vocab = 0;      // ids that a prompt may hold, and logits per row
  uint64_t first_seed = 1;  // requests without a seed take seeds derived from it, in order
  CheckpointSpacing spacing;
  SteeringContext steering;
};

class Scheduler {
 public:
  // Precondition: the runner's limits hold a chunk and one row per slot. All must outlive the scheduler; the cache's
  // sequences are its alone. sessions: null remembers nothing.
  Scheduler(StepRunner& runner, KvCache& cache, const Tokenizer* tokenizer, SessionStore* sessions,
            const SchedulerOptions& options);

  // Gives the request a free slot or queues it; the caller bounds the queue (n_waiting). An impossible one fails at
  // once, through its sink.
  void submit(GenerateRequest request);

  // One forward pass, if there is anything to run. False: nothing is left to do.
  bool step();

  // Ends everything, queued or running, as cancelled.
  void cancel_all();
  // Nothing is to be done for a while: what is remembered may be written.
  void rest();
  // The end: waits until it is written.
  void finish();

  size_t n_waiting() const { return waiting_.size(); }
  size_t n_running() const { return running_.size(); }
  uint64_t n_preemptions() const { return n_preemptions_; }
  // Since the start: tokens of prompts (and of what was lost by giving way) that were run, and tokens of answers.
  uint64_t n_prefilled_tokens() const { return n_prefilled_tokens_; }
  uint64_t n_decoded_tokens() const { return n_decoded_tokens_; }

 private:
  struct Job {
    std::unique_ptr<Sequence> sequence;  // null: moved away during this step
    uint64_t ticket = 0;                 // ascending in the order of submission
    bool had_turn = false;               // in this step's chunk
  };
  // A sequence's part of the current step.
  struct Part {
    Sequence* sequence;
    int32_t n_tokens;
    bool wants_logits;
  };

  Result<void> check(const GenerateRequest& request) const;
  void drop_cancelled();
  void admit();
  bool admit(size_t index);
  std::optional<size_t> next_to_admit();
  std::vector<size_t> fair_order() const;
  bool waits_for_prefix(const Sequence& sequence);
  void restore(Sequence& sequence, KvState& kv);
  void make_way_for_short();
  int32_t promised_pages() const;
  void choose_parts();
  int32_t add_part(Job& job, int32_t max_tokens);
  bool reserve(Job& job, int32_t n_tokens);
  void preempt(Job& job, uint64_t ticket);
  void run_parts();
  void close_turns();
  void remember(Sequence& sequence, CheckpointReason reason);
  void log_notices();

  StepRunner& runner_;
  KvCache& cache_;
  SessionStore* sessions_;
  SequenceContext context_;
  SchedulerOptions options_;
  Xorshift64Star seeds_;
  uint64_t next_ticket_ = 0;
  uint64_t n_preemptions_ = 0;
  uint64_t n_starts_ = 0;
  std::unordered_map<std::string, uint64_t> last_starts_;  // of clients, in starts
  uint64_t n_prefilled_tokens_ = 0;
  uint64_t n_decoded_tokens_ = 0;
  std::deque<Job> waiting_;  // ascending ticket
  std::deque<Job> running_;  // the next one to prefill first
  std::vector<Part> parts_;
  std::vector<SequenceInput> inputs_;
};

}  // namespace ds4
