#pragma once

// Replays conversations of several agents at once against an engine, and sets beside each request what it could have
// cost at least. The scheduler is stepped here, so that the same options give the same schedule, whatever the machine.

#include <cstdint>
#include <string>
#include <vector>

#include "model/kv_layout.h"
#include "tools/bench/agent_answer.h"
#include "tools/bench/agent_engine.h"
#include "tools/bench/agent_workload.h"

namespace ds4 {

struct AgentOptions {
  SubjectOptions subject;
  WorkloadOptions workload;
  std::vector<AgentKind> kinds{AgentKind::kClaudeCode};  // of the clients, in turn
  SampledForm sampled;
  int32_t n_clients = 3;
  int32_t stagger_turns = 0;  // so far ahead is each client of the next when that one begins
  int32_t restart_every = 0;  // turns; 0: never
  int32_t rest_every = 0;     // turns after which the engine has a pause; 0: never
  bool no_compute = false;
  bool no_replay = false;      // tool calls come back in the canonical form only
  bool keep_volatile = false;  // as does the line that changes with every session
  int32_t restore_tokens = 0;  // > 0: instead of all that, the speed of a checkpoint of so many tokens
  std::string json_path;       // "-": stdout
  std::string csv_path;
};

struct RequestRecord {
  RequestKind kind = RequestKind::kMain;
  int32_t client = 0;
  int32_t turn = 0;
  bool after_restart = false;  // the first of a main conversation in a fresh engine
  int32_t sent = 0;            // tokens of the prompt, as the tokenizer writes it
  int32_t fresh = 0;           // of these after the longest prefix that was sent or answered before
  int32_t since_turn = 0;  // of the known ones, those after the last marker of a user's turn: where checkpoints stand
  int32_t prefilled = 0;   // computed by the engine
  int32_t answered = 0;
  int64_t first_token_us = 0;
  int64_t total_us = 0;

  int32_t reused() const { return sent - prefilled; }
  int32_t excess() const { return prefilled - fresh; }
};

struct AgentResult {
  std::string model;
  KvLayout kv;
  int32_t n_slots = 0;
  double bytes_per_token = 0;  // of text
  std::vector<RequestRecord> requests;
  int64_t n_restarts = 0;
  uint64_t n_replayed = 0;        // assistant turns with calls in prompts, as they were sampled
  uint64_t n_canonical = 0;       // and those that were not
  int64_t recomputed_tokens = 0;  // run a second time within a request, because it had to give way
  int64_t n_preemptions = 0;
  // Sums over all engines of the run.
  int64_t wall_us = 0;  // without restarts
  int64_t run_us = 0;   // in the model
  int64_t restart_us = 0;
  SessionStatistics sessions;
  uint64_t written_bytes = 0;
  uint64_t written_checkpoint_bytes = 0;
  int64_t n_written_checkpoints = 0;
  // At the end.
  int64_t n_in_memory = 0;
  uint64_t in_memory_bytes = 0;
  uint64_t checkpoint_budget_bytes = 0;
  uint64_t disk_bytes = 0;
};

// Error: also when a request fails or says something else than its answer.
Result<AgentResult> run_agents(const AgentOptions& options, AgentModel& model, const Clock& clock);

// Bytes of text that a token stands for.
double measure_bytes_per_token(const Tokenizer& tokenizer);

}  // namespace ds4
