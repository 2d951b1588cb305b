#include "tools/bench/agent_run.h"

#include <algorithm>
#include <utility>

#include "chat/volatile_text.h"
#include "tools/bench/agent_accounting.h"

namespace ds4 {
namespace {

// Called by the scheduler, which is stepped by the thread that reads this.
class TurnSink final : public EventSink {
 public:
  explicit TurnSink(const Clock& clock) : clock_(clock), start_us_(clock.now_us()) {}

  void on_events(OutputEvents events) override {
    for (const OutputEvent& event : events) {
      if (const auto* failed = std::get_if<Failed>(&event)) failure_ = failed->error;
      if (const auto* end = std::get_if<Finished>(&event)) finished_ = *end;
      const bool is_text = std::holds_alternative<ReasoningDelta>(event) || std::holds_alternative<TextDelta>(event) ||
                           std::holds_alternative<ToolCallBegin>(event);
      if (is_text && first_us_ == 0) first_us_ = clock_.elapsed_us(start_us_);
      if (std::holds_alternative<ToolCallEnd>(event)) ++n_calls_;
    }
    if (finished_ || failure_) total_us_ = clock_.elapsed_us(start_us_);
  }

  const std::optional<Finished>& finished() const { return finished_; }
  const std::optional<Error>& failure() const { return failure_; }
  int64_t first_us() const { return first_us_; }
  int64_t total_us() const { return total_us_; }
  size_t n_calls() const { return n_calls_; }

 private:
  const Clock& clock_;
  int64_t start_us_;
  int64_t first_us_ = 0;
  int64_t total_us_ = 0;
  size_t n_calls_ = 0;
  std::optional<Finished> finished_;
  std::optional<Error> failure_;
};

struct Pending {
  RequestRecord record;
  std::vector<int32_t> said;  // prompt and answer, canonical
  std::vector<std::string> call_ids;
  std::shared_ptr<TurnSink> sink;
};

struct ReplayClient {
  AgentClient client;
  int32_t n_pending = 0;
  bool has_fresh_engine = false;
};

// As a server does with texts of the system.
void drop_volatile(Conversation& conversation) {
  for (Message& message : conversation.messages) {
    if (message.role != Role::kSystem) continue;
    std::vector<std::string> blocks{std::move(message.content)};
    drop_volatile_text(blocks);
    message.content = blocks.empty() ? std::string() : std::move(blocks.front());
  }
}

class Replay {
 public:
  Replay(const AgentOptions& options, AgentModel& model, const Clock& clock)
      : options_(options),
        model_(model),
        clock_(clock),
        renderer_(model.tokenizer(), options.sampled, options.workload.seed) {
    result_.model = model.name;
    result_.bytes_per_token = measure_bytes_per_token(model.tokenizer());
    for (int32_t i = 0; i < options.n_clients; ++i) {
      WorkloadOptions workload = options.workload;
      workload.kind = options.kinds[static_cast<size_t>(i) % options.kinds.size()];
      workload.bytes_per_token = result_.bytes_per_token;
      workload.count_tokens = [this](const Conversation& conversation) {
        return renderer_.count_prompt(conversation,
                                      {.thinking_mode = ThinkingMode::kThinking, .format = model_.subject.chat_format});
      };
      clients_.push_back({.client = AgentClient(workload, i)});
    }
  }

  Result<AgentResult> run() {
    TRY(start_engine());
    const int32_t turns = options_.workload.turns;
    int32_t last_turn = options_.restart_every > 0 ? options_.restart_every : turns;
    int64_t start_us = clock_.now_us();
    while (true) {
      const bool is_idle = !TRY(submit_all(last_turn));
      if (is_idle && last_turn >= turns) break;
      if (is_idle) {
        last_turn += options_.restart_every;
        result_.wall_us += clock_.elapsed_us(start_us);
        TRY(restart());
        start_us = clock_.now_us();
        continue;
      }
      engine_->scheduler->step();
      TRY(collect());
    }
    engine_->scheduler->finish();
    result_.wall_us += clock_.elapsed_us(start_us);
    end_engine();
    return std::move(result_);
  }

 private:
  Result<void> start_engine() {
    engine_ = TRY(AgentEngine::create(model_, options_.subject.engine, clock_));
    result_.kv = engine_->cache->layout();
    result_.n_slots = engine_->cache->limits().n_slots;
    result_.checkpoint_budget_bytes = engine_->checkpoint_budget_bytes;
    return {};
  }

  void end_engine() {
    const ReplayStatistics replay = engine_->replay->statistics();
    result_.n_replayed += replay.n_memory + replay.n_store;
    result_.n_canonical += replay.n_canonical;
    result_.run_us += engine_->counter->run_us();
    result_.n_preemptions += static_cast<int64_t>(engine_->scheduler->n_preemptions());
    result_.recomputed_tokens += engine_->counter->n_tokens() - std::exchange(n_needed_, 0);
    if (engine_->sessions == nullptr) return;
    const SessionStatistics& own = engine_->sessions->statistics();
    SessionStatistics& sum = result_.sessions;
    sum.n_saved += own.n_saved;
    sum.saved_frontier_bytes += own.saved_frontier_bytes;
    sum.most_frontier_bytes = std::max(sum.most_frontier_bytes, own.most_frontier_bytes);
    sum.save_us += own.save_us;
    sum.n_restored += own.n_restored;
    sum.n_loaded += own.n_loaded;
    sum.restore_us += own.restore_us;
    result_.n_in_memory = static_cast<int64_t>(engine_->sessions->index().n_in_memory());
    result_.in_memory_bytes = engine_->sessions->index().frontier_bytes();
    if (engine_->sessions->disk() == nullptr) return;
    const DiskStoreStatistics disk = engine_->sessions->disk()->statistics();
    result_.written_bytes += disk.written_bytes;
    result_.written_checkpoint_bytes += disk.written_checkpoint_bytes;
    result_.n_written_checkpoints += disk.n_written_checkpoints;
    result_.disk_bytes = disk.disk_bytes;
  }

  // As ds4-server ends and begins.
  Result<void> restart() {
    const int64_t start_us = clock_.now_us();
    engine_->scheduler->finish();
    end_engine();
    engine_.reset();
    TRY(start_engine());
    result_.restart_us += clock_.elapsed_us(start_us);
    ++result_.n_restarts;
    for (ReplayClient& client : clients_) client.has_fresh_engine = true;
    return {};
  }

  bool may_begin(size_t i) const {
    return i == 0 || options_.stagger_turns == 0 || clients_[i - 1].client.turn() > options_.stagger_turns;
  }

  // What clients that wait for nothing have to ask, up to a turn. False: nothing is on its way.
  Result<bool> submit_all(int32_t last_turn) {
    bool has_work = false;
    for (size_t i = 0; i < clients_.size(); ++i) {
      ReplayClient& client = clients_[i];
      if (client.n_pending == 0 && may_begin(i)) {
        for (AgentRequest& request : client.client.next(last_turn)) {
          if (!options_.keep_volatile) drop_volatile(request.conversation);
          TRY(submit(static_cast<int32_t>(i), request));
        }
      }
      has_work = has_work || client.n_pending > 0;
    }
    return has_work;
  }

  int32_t since_turn(std::span<const int32_t> prompt) const {
    const auto known = prompt.first(static_cast<size_t>(known_.shared_tokens(prompt)));
    const auto user =
        std::ranges::find(known.rbegin(), known.rend(), *model_.tokenizer().control_id(ControlToken::kUser));
    return static_cast<int32_t>(user - known.rbegin()) + (user == known.rend() ? 0 : 1);
  }

  Result<void> submit(int32_t client, const AgentRequest& request) {
    const RenderOptions render{.thinking_mode = request.thinking_mode,
                               .format = model_.subject.chat_format,
                               .replay = options_.no_replay ? nullptr : engine_->replay.get()};
    RenderedTurn turn = TRY(renderer_.render(request.conversation, request.answer, render));
    ReplayClient& from = clients_[static_cast<size_t>(client)];
    Pending pending{.record = {.kind = request.kind,
                               .client = client,
                               .turn = request.turn,
                               .sent = static_cast<int32_t>(turn.prompt.size()),
                               .fresh = known_.new_tokens(turn.prompt),
                               .since_turn = since_turn(turn.prompt),
                               .answered = static_cast<int32_t>(turn.sampled.size())},
                    .said = turn.prompt,
                    .sink = std::make_shared<TurnSink>(clock_)};
    if (request.kind == RequestKind::kMain || request.kind == RequestKind::kAfterEdit)
      pending.record.after_restart = std::exchange(from.has_fresh_engine, false);
    for (const ToolCall& call : request.answer.tool_calls) pending.call_ids.push_back(call.id);
    known_.add(std::move(turn.prompt));
    pending.said.insert(pending.said.end(), turn.answer.begin(), turn.answer.end());

    GenerateRequest generate;
    generate.output.starts_in_thinking = turn.starts_in_thinking;
    generate.output.tools_enabled = !request.conversation.messages.front().tools.empty();
    generate.prompt_tokens = std::move(turn.sent);
    generate.forced_tokens = std::move(turn.sampled);
    generate.sink = pending.sink;
    ++from.n_pending;
    pending_.push_back(std::move(pending));
    engine_->scheduler->submit(std::move(generate));
    return {};
  }

  Result<void> collect() {
    for (Pending& pending : pending_) {
      if (pending.sink->failure()) return *pending.sink->failure();
      if (!pending.sink->finished()) continue;
      RequestRecord& record = pending.record;
      const Usage& usage = pending.sink->finished()->usage;
      if (pending.sink->n_calls() != pending.call_ids.size() ||
          usage.completion_tokens + 1 != static_cast<size_t>(record.answered)) {
        return make_error(ErrorCode::kInternal,
                          "turn {} of client {}: {} calls and {} tokens answered, expected {} and {}", record.turn,
                          record.client, pending.sink->n_calls(), usage.completion_tokens + 1, pending.call_ids.size(),
                          record.answered);
      }
      record.prefilled = static_cast<int32_t>(usage.prompt_tokens - usage.cached_tokens);
      record.first_token_us = pending.sink->first_us();
      record.total_us = pending.sink->total_us();
      // The last token of an answer is never run; tool calls end before it, and where nothing is remembered with one
      // more.
      n_needed_ += record.prefilled + record.answered - 1;
      if (engine_->sessions == nullptr && !pending.call_ids.empty()) --n_needed_;
      known_.add(std::move(pending.said));
      if (pending.sink->finished()->sampled_calls)
        engine_->replay->record(pending.call_ids, *pending.sink->finished()->sampled_calls);
      --clients_[static_cast<size_t>(record.client)].n_pending;
      result_.requests.push_back(record);
      const bool is_rest = options_.rest_every > 0 && record.kind == RequestKind::kMain && record.client == 0 &&
                           record.turn % options_.rest_every == 0;
      if (is_rest) engine_->scheduler->rest();
    }
    std::erase_if(pending_, [](const Pending& pending) { return pending.sink->finished().has_value(); });
    return {};
  }

  const AgentOptions& options_;
  AgentModel& model_;
  const Clock& clock_;
  TurnRenderer renderer_;
  KnownPrefixes known_;
  std::unique_ptr<AgentEngine> engine_;
  std::vector<ReplayClient> clients_;
  std::vector<Pending> pending_;
  int64_t n_needed_ = 0;  // tokens that this engine had to run, each once
  AgentResult result_;
};

}  // namespace

double measure_bytes_per_token(const Tokenizer& tokenizer) {
  constexpr size_t kSampleBytes = 32768;
  AgentText text(1);
  const std::string sample = text.prose(kSampleBytes) + text.listing(kSampleBytes);
  return static_cast<double>(sample.size()) / static_cast<double>(tokenizer.encode_text(sample).size());
}

Result<AgentResult> run_agents(const AgentOptions& options, AgentModel& model, const Clock& clock) {
  return Replay(options, model, clock).run();
}

}  // namespace ds4
