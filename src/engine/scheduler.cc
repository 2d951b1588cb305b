#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace ds4 {
namespace {

bool is_cancelled(const GenerateRequest& request) { return request.cancel != nullptr && request.cancel->load(); }

void end_as_cancelled(const GenerateRequest& request) {
  request.sink->on_events({Finished{FinishReason::kCancelled, {.prompt_tokens = request.prompt_tokens.size()}}});
}

}  // namespace

Scheduler::Scheduler(ForwardPass& forward, KvCache& cache, const Tokenizer* tokenizer, const SchedulerOptions& options)
    : forward_(forward),
      cache_(cache),
      context_{tokenizer, cache.limits().ctx_tokens},
      options_(options),
      seeds_(options.first_seed) {
  const int32_t n_slots = cache.limits().n_slots;
  CHECK(options.prefill_chunk_tokens >= 1, "prefill chunk of {}", options.prefill_chunk_tokens);
  CHECK(
      forward.limits().batch_rows >= options.prefill_chunk_tokens + n_slots && forward.limits().logits_rows >= n_slots,
      "{} rows and {} logits for a chunk of {} and {} slots", forward.limits().batch_rows, forward.limits().logits_rows,
      options.prefill_chunk_tokens, n_slots);
}

void Scheduler::submit(GenerateRequest request) {
  CHECK(request.sink != nullptr, "a request without a sink");
  if (Result<void> checked = check(request); !checked.ok()) {
    request.sink->on_events({Failed{checked.take_error()}});
    return;
  }
  waiting_.push_back(std::move(request));
  admit();
}

Result<void> Scheduler::check(const GenerateRequest& request) const {
  if (request.prompt_tokens.empty()) return make_error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  for (const int32_t token : request.prompt_tokens) {
    if (token < 0 || token >= options_.n_vocab) {
      return make_error(ErrorCode::kInvalidArgument, "prompt token {}: expected an id from 0 to {}", token,
                        options_.n_vocab - 1);
    }
  }
  return check_prompt_fits(request.prompt_tokens.size(), context_.ctx_tokens);
}

bool Scheduler::step() {
  drop_cancelled();
  admit();
  choose_parts();
  if (!parts_.empty()) run_parts();
  std::erase_if(running_, [](const auto& sequence) { return sequence->is_done(); });
  return !waiting_.empty() || !running_.empty();
}

void Scheduler::cancel_all() {
  for (const GenerateRequest& request : waiting_) end_as_cancelled(request);
  waiting_.clear();
  for (const auto& sequence : running_) sequence->cancel();
  running_.clear();
}

void Scheduler::drop_cancelled() {
  std::erase_if(waiting_, [](const GenerateRequest& request) {
    if (!is_cancelled(request)) return false;
    end_as_cancelled(request);
    return true;
  });
  std::erase_if(running_, [](const auto& sequence) {
    if (!sequence->is_cancelled()) return false;
    sequence->cancel();
    return true;
  });
}

void Scheduler::admit() {
  while (!waiting_.empty() && cache_.n_free_slots() > 0) {
    Result<KvState> kv = cache_.new_sequence();
    CHECK(kv.ok(), "a free slot is no slot: {}", kv.error().message);
    const uint64_t seed = seeds_.next();
    running_.push_back(std::make_unique<Sequence>(std::move(waiting_.front()), std::move(kv).value(), context_, seed));
    waiting_.pop_front();
  }
}

void Scheduler::choose_parts() {
  parts_.clear();
  for (const auto& sequence : running_) {
    if (!sequence->is_prefilling()) add_part(*sequence, 1);
  }
  int32_t rest_of_chunk = options_.prefill_chunk_tokens;
  std::vector<std::unique_ptr<Sequence>> served;
  for (auto& sequence : running_) {
    if (rest_of_chunk == 0 || !sequence->is_prefilling()) continue;
    rest_of_chunk -= add_part(*sequence, rest_of_chunk);
    served.push_back(std::move(sequence));
  }
  // Whoever had a turn stands behind the others now.
  std::erase(running_, nullptr);
  std::move(served.begin(), served.end(), std::back_inserter(running_));
}

int32_t Scheduler::add_part(Sequence& sequence, int32_t max_tokens) {
  const auto n_tokens = static_cast<int32_t>(sequence.pending_tokens(max_tokens).size());
  // Here, so that a lack of pages fails this sequence and not the whole step.
  if (Result<void> reserved = sequence.kv().reserve(n_tokens); !reserved.ok()) {
    sequence.fail(reserved.take_error());
    return 0;
  }
  parts_.push_back({&sequence, n_tokens, sequence.wants_logits(n_tokens)});
  return n_tokens;
}

void Scheduler::run_parts() {
  inputs_.clear();
  for (const Part& part : parts_) {
    inputs_.push_back({&part.sequence->kv(), part.sequence->pending_tokens(part.n_tokens),
                       part.wants_logits ? LogitsWanted::kLast : LogitsWanted::kNone});
  }
  const Result<std::span<const float>> logits = forward_.run(inputs_);
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
  }
}

}  // namespace ds4
