#include "engine/scheduler.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/log.h"

namespace ds4 {
namespace {

// A shared prefix of so many tokens is not computed twice.
constexpr int32_t kWorthWaitingTokens = 256;

// So many have their last start known; then all are new again.
constexpr size_t kMaxKnownClients = 4096;

constexpr auto kByTicket = [](uint64_t ticket, const auto& job) { return ticket < job.ticket; };

}  // namespace

Scheduler::Scheduler(StepRunner& runner, KvCache& cache, const Tokenizer* tokenizer, SessionStore* sessions,
                     const SchedulerOptions& options)
    : runner_(runner),
      cache_(cache),
      sessions_(sessions),
      context_{tokenizer, cache.limits().ctx_tokens, options.spacing, options.steering},
      options_(options),
      seeds_(options.first_seed) {
  const int32_t n_slots = cache.limits().n_slots;
  CHECK(options.prefill_chunk_tokens >= 1, "prefill chunk of {}", options.prefill_chunk_tokens);
  CHECK(runner.limits().batch_rows >= options.prefill_chunk_tokens + n_slots && runner.limits().logits_rows >= n_slots,
        "{} rows and {} logits for a chunk of {} and {} slots", runner.limits().batch_rows, runner.limits().logits_rows,
        options.prefill_chunk_tokens, n_slots);
  if (sessions == nullptr) context_.spacing.prompt_tokens = 0;
}

void Scheduler::submit(GenerateRequest request) {
  CHECK(request.sink != nullptr, "a request without a sink");
  if (Result<void> checked = check(request); !checked.ok()) {
    request.sink->on_events({Failed{checked.take_error()}});
    return;
  }
  waiting_.push_back(
      {.sequence = std::make_unique<Sequence>(std::move(request), context_, seeds_.next()), .ticket = next_ticket_++});
  admit();
}

Result<void> Scheduler::check(const GenerateRequest& request) const {
  if (request.prompt_tokens.empty()) return make_error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  for (const auto& [name, tokens] :
       {std::pair("prompt", &request.prompt_tokens), std::pair("forced", &request.forced_tokens)}) {
    for (const int32_t token : *tokens) {
      if (token >= 0 && token < options_.n_vocab) continue;
      return make_error(ErrorCode::kInvalidArgument, "{} token {}: expected an id from 0 to {}", name, token,
                        options_.n_vocab - 1);
    }
  }
  if (has_rules(request.output.rules) && request.grammar == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "the rules of the answer were not compiled");
  }
  if (request.steering) TRY(check_steering(*request.steering, context_.steering.has_directions));
  return check_prompt_fits(request.prompt_tokens.size(), context_.ctx_tokens);
}

bool Scheduler::step() {
  drop_cancelled();
  admit();
  choose_parts();
  if (!parts_.empty()) run_parts();
  if (sessions_ != nullptr) close_turns();
  std::erase_if(running_, [](const Job& job) { return job.sequence->is_done(); });
  if (running_.empty()) log_notices();
  return !waiting_.empty() || !running_.empty();
}

void Scheduler::cancel_all() {
  for (std::deque<Job>* jobs : {&waiting_, &running_}) {
    for (const Job& job : *jobs) {
      if (job.sequence->is_started()) remember(*job.sequence, CheckpointReason::kInterval);
      job.sequence->cancel();
    }
    jobs->clear();
  }
}

void Scheduler::rest() {
  if (sessions_ != nullptr) sessions_->store_resting(RestKind::kPause);
}

void Scheduler::finish() {
  if (sessions_ == nullptr) return;
  // A queue holds a few long conversations. Every try but the last brings one further, or gives it up.
  for (bool is_complete = false; !is_complete;) {
    is_complete = sessions_->store_resting(RestKind::kEnd);
    const Result<void> flushed = sessions_->flush();
    if (flushed.ok()) continue;
    log_warn("not everything that was remembered is on disk", {{"reason", flushed.error().message}});
    break;
  }
  if (const int64_t n = sessions_->statistics().n_given_up; n > 0)
    log_warn("the disk store has no room for conversations", {{"n", n}});
  log_notices();
}

// What the disk store ran into.
void Scheduler::log_notices() {
  if (sessions_ == nullptr || sessions_->disk() == nullptr) return;
  for (const std::string& notice : sessions_->disk()->take_notices()) log_warn("kv store", {{"notice", notice}});
}

void Scheduler::drop_cancelled() {
  for (std::deque<Job>* jobs : {&waiting_, &running_}) {
    std::erase_if(*jobs, [&](const Job& job) {
      if (!job.sequence->is_cancelled()) return false;
      // Whoever tries again goes on from here.
      if (job.sequence->is_started()) remember(*job.sequence, CheckpointReason::kInterval);
      job.sequence->cancel();
      return true;
    });
  }
}

void Scheduler::admit() {
  make_way_for_short();
  while (cache_.n_free_slots() > 0) {
    const std::optional<size_t> next = next_to_admit();
    if (!next || !admit(*next)) return;
  }
}

std::optional<size_t> Scheduler::next_to_admit() {
  for (const size_t index : fair_order()) {
    if (!waits_for_prefix(*waiting_[index].sequence)) return index;
  }
  return std::nullopt;
}

// Indices of those that wait. What gave way keeps the place that its ticket has among its client's.
std::vector<size_t> Scheduler::fair_order() const {
  std::unordered_map<std::string_view, uint64_t> n_running;
  for (const Job& job : running_) {
    if (job.sequence != nullptr) ++n_running[job.sequence->client()];
  }
  std::vector<std::array<uint64_t, 3>> order;  // running, last start, index
  for (size_t i = 0; i < waiting_.size(); ++i) {
    const std::string& client = waiting_[i].sequence->client();
    const auto running = n_running.find(client);
    const auto started = last_starts_.find(client);
    order.push_back(
        {running != n_running.end() ? running->second : 0, started != last_starts_.end() ? started->second : 0, i});
  }
  std::ranges::sort(order);
  std::vector<size_t> indices;
  for (const auto& entry : order) indices.push_back(entry[2]);
  return indices;
}

// A running sequence is still to compute much of what this one starts with: it takes a checkpoint where the two part,
// and there this one begins, no later than if both computed it side by side.
bool Scheduler::waits_for_prefix(const Sequence& sequence) {
  if (sessions_ == nullptr) return false;
  for (const Job& job : running_) {
    Sequence& other = *job.sequence;
    if (other.identity() != sequence.identity()) continue;
    const std::span<const int32_t> prompt = other.tokens().first(static_cast<size_t>(other.n_prompt_tokens()));
    const auto n_equal = std::ranges::mismatch(prompt, sequence.tokens()).in1 - prompt.begin();
    const size_t most = std::min(prompt.size(), sequence.tokens().size()) - 1;
    const auto n_shared = static_cast<int32_t>(std::min(static_cast<size_t>(n_equal), most));
    if (n_shared <= other.kv().n_tokens()) continue;
    if (other.has_stop(n_shared)) return true;
    if (n_shared - other.n_remembered() < kWorthWaitingTokens) continue;
    other.add_stop(n_shared);
    return true;
  }
  return false;
}

// Pages that running sequences will still take for tokens that are known.
int32_t Scheduler::promised_pages() const {
  int32_t n = 0;
  for (const Job& job : running_) n += job.sequence->kv().n_missing_pages(job.sequence->n_pending());
  return n;
}

// False: it has to wait for pages.
bool Scheduler::admit(size_t index) {
  Sequence& sequence = *waiting_[index].sequence;
  Result<KvState> made = cache_.new_sequence();
  CHECK(made.ok(), "a free slot is no slot: {}", made.error().message);
  KvState kv = made.take_value();
  if (sessions_ != nullptr) restore(sequence, kv);
  // And one more for each that runs, or it would have to give way again at once.
  const int32_t n_wanted = kv.n_missing_pages(static_cast<int32_t>(sequence.tokens().size()) - kv.n_tokens()) +
                           promised_pages() + static_cast<int32_t>(running_.size());
  const bool has_room = n_wanted <= cache_.n_free_pages() ||
                        (n_wanted <= cache_.limits().n_pages && sessions_ != nullptr && sessions_->make_room(n_wanted));
  // Alone it starts all the same: reserve() says what is missing, if anything is.
  if (!has_room && !running_.empty()) return false;
  sequence.start(std::move(kv));
  if (last_starts_.size() >= kMaxKnownClients) last_starts_.clear();
  last_starts_[sequence.client()] = ++n_starts_;
  running_.push_back(std::move(waiting_[index]));
  waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(index));
  return true;
}

// The longest remembered state of the sequence's tokens, none of which may be steered otherwise.
void Scheduler::restore(Sequence& sequence, KvState& kv) {
  const bool is_new = sequence.is_new();
  // One more, which restore() leaves to be run.
  const size_t n_usable = std::min(sequence.tokens().size(), sequence.n_identified() + 1);
  std::vector<int32_t> tokens(sequence.tokens().begin(),
                              sequence.tokens().begin() + static_cast<std::ptrdiff_t>(n_usable));
  const int64_t n_loaded_before = sessions_->statistics().n_loaded;
  const RestoredPrefix restored =
      sessions_->restore(tokens, kv, is_new ? PrefixKind::kSameText : PrefixKind::kSameTokens,
                         static_cast<size_t>(context_.ctx_tokens - 1), sequence.identity());
  const bool from_disk = sessions_->statistics().n_loaded > n_loaded_before;
  if (is_new) sequence.replace_prompt(std::move(tokens), restored.n_tokens, from_disk);
}

// All slots taken, and a short prompt waits behind a long one that is being read: the long one goes on later.
void Scheduler::make_way_for_short() {
  if (waiting_.empty() || cache_.n_free_slots() > 0 || sessions_ == nullptr) return;
  const std::optional<size_t> index = next_to_admit();
  if (!index) return;
  const Sequence& next = *waiting_[*index].sequence;
  const auto chunk = static_cast<size_t>(options_.prefill_chunk_tokens);
  if (!next.is_new() || next.tokens().size() > 2 * chunk) return;
  const auto longest = std::max_element(running_.begin(), running_.end(), [](const Job& a, const Job& b) {
    return a.sequence->n_pending() < b.sequence->n_pending();
  });
  if (longest->sequence->n_pending() < static_cast<int32_t>(8 * chunk)) return;
  preempt(*longest, next_ticket_++);
  std::erase_if(running_, [](const Job& job) { return job.sequence == nullptr; });
}

void Scheduler::choose_parts() {
  parts_.clear();
  for (Job& job : running_) {
    if (job.sequence != nullptr && !job.sequence->is_prefilling()) add_part(job, 1);
  }
  int32_t rest = options_.prefill_chunk_tokens;
  if (!parts_.empty() && options_.mixed_chunk_tokens > 0) rest = std::min(rest, options_.mixed_chunk_tokens);
  int32_t rest_for_short = (rest + 1) / 2;
  const auto wants_turn = [](const Job& job) {
    return job.sequence != nullptr && !job.had_turn && !job.sequence->is_done() && job.sequence->is_prefilling();
  };
  for (Job& job : running_) {
    if (!wants_turn(job) || job.sequence->n_pending() > rest_for_short) continue;
    job.had_turn = true;
    const int32_t n_tokens = add_part(job, rest_for_short);
    rest_for_short -= n_tokens;
    rest -= n_tokens;
  }
  for (Job& job : running_) {
    if (rest == 0 || !wants_turn(job)) continue;
    job.had_turn = true;
    rest -= add_part(job, rest);
  }
  // Whoever had a turn stands behind the others now.
  std::erase_if(running_, [](const Job& job) { return job.sequence == nullptr; });
  for (size_t n = running_.size(), i = 0; n > 0; --n) {
    if (!running_[i].had_turn) {
      ++i;
      continue;
    }
    running_[i].had_turn = false;
    running_.push_back(std::move(running_[i]));
    running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

int32_t Scheduler::add_part(Job& job, int32_t max_tokens) {
  const auto n_tokens = static_cast<int32_t>(job.sequence->pending_tokens(max_tokens).size());
  if (n_tokens == 0 || !reserve(job, n_tokens)) return 0;
  parts_.push_back({job.sequence.get(), n_tokens, job.sequence->wants_logits(n_tokens)});
  return n_tokens;
}

// Pages for the next tokens. False: the sequence failed, or had to give way.
bool Scheduler::reserve(Job& job, int32_t n_tokens) {
  KvState& kv = job.sequence->kv();
  while (true) {
    Result<void> reserved = kv.reserve(n_tokens);
    if (reserved.ok()) return true;
    if (reserved.error().code != ErrorCode::kOutOfMemory) {
      job.sequence->fail(reserved.take_error());
      return false;
    }
    if (sessions_ != nullptr && sessions_->make_room(kv.n_missing_pages(n_tokens))) continue;
    Job* youngest = nullptr;
    int32_t n_live = 0;
    for (Job& other : running_) {
      if (other.sequence == nullptr || other.sequence->is_done()) continue;
      ++n_live;
      if (youngest == nullptr || other.ticket > youngest->ticket) youngest = &other;
    }
    if (n_live <= 1) {
      job.sequence->fail(reserved.take_error());
      return false;
    }
    const bool gives_way = youngest == &job;
    preempt(*youngest, youngest->ticket);
    if (gives_way) return false;
  }
}

// Back to the queue, with what was computed remembered as long as nobody needs its pages.
void Scheduler::preempt(Job& job, uint64_t ticket) {
  Sequence* sequence = job.sequence.get();
  std::erase_if(parts_, [&](const Part& part) { return part.sequence == sequence; });
  remember(*sequence, CheckpointReason::kPreempted);
  sequence->stop();
  const auto place = std::upper_bound(waiting_.begin(), waiting_.end(), ticket, kByTicket);
  waiting_.insert(place, Job{.sequence = std::move(job.sequence), .ticket = ticket});
  ++n_preemptions_;
}

void Scheduler::remember(Sequence& sequence, CheckpointReason reason) {
  const auto n_tokens = static_cast<size_t>(sequence.kv().n_tokens());
  if (sessions_ == nullptr || n_tokens == 0 || n_tokens > sequence.n_identified()) return;
  sessions_->save(sequence.tokens().first(n_tokens), sequence.is_before_control(), reason, sequence.kv(),
                  sequence.identity());
}

void Scheduler::run_parts() {
  inputs_.clear();
  for (const Part& part : parts_) {
    (part.sequence->is_prefilling() ? n_prefilled_tokens_ : n_decoded_tokens_) += static_cast<uint64_t>(part.n_tokens);
    inputs_.push_back({&part.sequence->kv(), part.sequence->pending_tokens(part.n_tokens),
                       part.wants_logits ? LogitsWanted::kLast : LogitsWanted::kNone,
                       part.sequence->pending_steering()});
  }
  const Result<std::span<const float>> logits = runner_.run(inputs_);
  if (!logits.ok()) {
    for (const Part& part : parts_) part.sequence->fail(logits.error());
    return;
  }
  const auto n_vocab = static_cast<size_t>(options_.n_vocab);
  std::span<const float> rest = logits.value();
  for (const Part& part : parts_) {
    const std::span<const float> row = part.wants_logits ? rest.first(n_vocab) : std::span<const float>();
    rest = rest.subspan(row.size());
    part.sequence->on_step(row);
    if (const auto reason = part.sequence->take_checkpoint_reason()) remember(*part.sequence, *reason);
  }
}

// Answers that ended with a text token (tool calls, limits): it is run too, so that what is remembered ends where the
// next prompt has a control token, and can be found however the client's text is cut.
void Scheduler::close_turns() {
  inputs_.clear();
  for (const Job& job : running_) {
    const Sequence& sequence = *job.sequence;
    if (!sequence.is_unclosed() || sequence.n_identified() < sequence.tokens().size()) continue;
    KvState& kv = job.sequence->kv();
    if (kv.reserve(1).ok() || (sessions_->make_room(1) && kv.reserve(1).ok()))
      inputs_.push_back({&kv, sequence.tokens().last(1), LogitsWanted::kNone, sequence.pending_steering()});
  }
  if (inputs_.empty() || !runner_.run(inputs_).ok()) return;
  for (const Job& job : running_) {
    if (job.sequence->is_done() && job.sequence->n_pending() == 0) remember(*job.sequence, job.sequence->end_reason());
  }
}

}  // namespace ds4
