#include "tools/score/scored_model.h"

#include <utility>

#include "base/file.h"
#include "gguf/reader.h"
#include "tools/common/progress_line.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{1} << 30;

}  // namespace

Result<std::vector<int32_t>> tokenize_file(const std::string& model_path, const std::string& text_path) {
  const std::unique_ptr<GgufFile> file = TRY(GgufFile::open(model_path));
  const std::unique_ptr<Tokenizer> tokenizer = TRY(load_tokenizer(*file));
  if (tokenizer == nullptr) {
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: text needs one", model_path);
  }
  return tokenizer->encode_text(TRY(read_file(text_path, kMaxTextBytes)));
}

Result<ScoredModel> ScoredModel::load(EngineOptions options, const TextPlan& plan, int32_t max_step_tokens) {
  options.ctx_tokens = plan.ctx_tokens();
  options.n_slots = 1;
  options.prefill_chunk_tokens = max_step_tokens;
  options.logits_rows = std::min(max_step_tokens, options.ctx_tokens);
  options.load_progress = show_load_progress("ds4-score");
  std::unique_ptr<Engine> engine = TRY(Engine::load(options));
  KvState kv = TRY(engine->kv_cache().new_sequence());
  return ScoredModel(std::move(engine), std::move(kv));
}

Result<std::span<const float>> ScoredModel::run(const TextPlan& plan, const ScoreStep& step) {
  if (step.starts_window) kv_.clear();
  const auto tokens =
      std::span(plan.tokens).subspan(static_cast<size_t>(step.first), static_cast<size_t>(step.n_tokens));
  const SequenceInput input{&kv_, tokens, step.is_scored ? LogitsWanted::kAll : LogitsWanted::kNone,
                            engine_->steering().for_prompt()};
  return engine_->forward().run({&input, 1});
}

}  // namespace ds4
