#include "tools/bench/agent_restore.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/rng.h"

namespace ds4 {
namespace {

constexpr int kRepeats = 10;

std::vector<int32_t> random_tokens(int32_t n, int32_t n_vocab) {
  Xorshift64Star rng(7);
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(rng.next() % static_cast<uint64_t>(n_vocab)));
  return tokens;
}

// Within memory, every time between the same two buffers.
class Copy {
 public:
  explicit Copy(uint64_t n_bytes) : from_(n_bytes, std::byte{1}), to_(n_bytes, std::byte{2}) {}

  int64_t run_us(const Clock& clock) {
    const int64_t start_us = clock.now_us();
    std::memcpy(to_.data(), from_.data(), from_.size());
    const int64_t us = clock.elapsed_us(start_us);
    // Used, so that it is done.
    from_.front() = to_.back();
    return us;
  }

 private:
  std::vector<std::byte> from_;
  std::vector<std::byte> to_;
};

Result<int64_t> restore_us(AgentEngine& engine, std::vector<int32_t> prompt, const Clock& clock) {
  const auto n_tokens = static_cast<int32_t>(prompt.size()) - 1;
  KvState kv = TRY(engine.cache->new_sequence());
  const int64_t start_us = clock.now_us();
  const RestoredPrefix restored = engine.sessions->restore(prompt, kv, PrefixKind::kSameTokens, prompt.size());
  const int64_t us = clock.elapsed_us(start_us);
  if (restored.n_tokens != n_tokens)
    return make_error(ErrorCode::kInternal, "{} tokens came back, expected {}", restored.n_tokens, n_tokens);
  return us;
}

}  // namespace

Result<RestoreResult> measure_restore(const AgentOptions& options, AgentModel& model, const Clock& clock) {
  RestoreResult result{.n_tokens = options.restore_tokens};
  EngineOptions engine_options = options.subject.engine;
  engine_options.ctx_tokens = std::max(engine_options.ctx_tokens, options.restore_tokens + 1);
  engine_options.n_slots = 1;
  std::vector<int32_t> prompt = random_tokens(options.restore_tokens + 1, model.tokenizer().n_vocab());
  {
    const auto engine = TRY(AgentEngine::create(model, engine_options, clock));
    if (engine->sessions == nullptr || engine->sessions->disk() == nullptr)
      return make_error(ErrorCode::kInvalidArgument, "--restore-tokens needs --kv-disk-dir");
    KvState kv = TRY(engine->cache->new_sequence());
    TRY(kv.reserve(options.restore_tokens));
    kv.advance(options.restore_tokens);
    const int64_t start_us = clock.now_us();
    engine->sessions->save(std::span(prompt).first(prompt.size() - 1), false, CheckpointReason::kTurnEnd, kv);
    result.save_us = clock.elapsed_us(start_us);
    const KvLayout& layout = engine->cache->layout();
    result.bytes = layout.live_bytes(options.restore_tokens) +
                   static_cast<uint64_t>(options.restore_tokens / kPageTokens) * layout.page_bytes;
    engine->scheduler->finish();
    result.flush_us = clock.elapsed_us(start_us) - result.save_us;
  }
  result.load_us = result.memory_us = result.copy_us = std::numeric_limits<int64_t>::max();
  Copy copy(result.bytes);
  for (int i = 0; i < kRepeats; ++i) {
    const int64_t start_us = clock.now_us();
    const auto engine = TRY(AgentEngine::create(model, engine_options, clock));
    result.open_us = clock.elapsed_us(start_us);
    result.load_us = std::min(result.load_us, TRY(restore_us(*engine, prompt, clock)));
    result.memory_us = std::min(result.memory_us, TRY(restore_us(*engine, prompt, clock)));
    // In turns with the copy: a busy machine slows both.
    result.copy_us = std::min(result.copy_us, copy.run_us(clock));
  }
  return result;
}

}  // namespace ds4
