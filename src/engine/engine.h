#pragma once

// Everything that belongs to one loaded model: backend, weights, tokenizer, KV memory, schedule and scheduler. Loading
// either succeeds completely or says everything that is wrong with the file. The const members may be used by any
// thread at any time; scheduler(), forward() and kv_cache() by one thread only: the EngineThread's, or that of a
// program which computes by itself.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "chat/message.h"
#include "engine/memory_plan.h"
#include "engine/request.h"
#include "engine/rule_compiler.h"
#include "engine/scheduler.h"
#include "gguf/reader.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace ds4 {

inline constexpr int32_t kDefaultCtxTokens = 32768;

struct SteeringOptions {
  std::string file;                // of directions; empty: none
  std::optional<float> attn, ffn;  // where neither is given with a file: ffn 1
  SteeringPolicy policy = SteeringPolicy::kAlways;

  // Errors: those of check_steering().
  Result<SteeringSettings> settings() const;
};

enum class DeviceKind : uint8_t { kCpu, kCuda };

struct EngineOptions {
  std::string model_path;
  DeviceKind device_kind = DeviceKind::kCpu;  // for make_backend
  int32_t device = 0;                         // which of them
  // Where the model runs; empty: the CPU. What programs put here: tools/common/backend_choice.h.
  std::function<Result<std::unique_ptr<Backend>>(const EngineOptions&)> make_backend;
  // Of loading; may be empty.
  WeightProgress load_progress;
  int32_t ctx_tokens = 0;    // longest sequence; 0: kDefaultCtxTokens, or the model's own limit where that is less
  int32_t n_slots = 4;       // sequences alive at once
  int32_t n_threads = 0;     // 0: one per usable core
  bool pin_threads = false;  // see ThreadPoolOptions
  NumericProfile profile = NumericProfile::kCanonical;
  std::optional<ChatFormat> chat_format;  // default: what the file says (key ds4.chat_format), else preview
  int32_t prefill_chunk_tokens = 512;     // most prompt tokens of one step
  int32_t mixed_chunk_tokens = 128;       // the same while answers are being written
  int32_t logits_rows = 0;                // most logits of one step, where one per slot is not enough
  SteeringOptions steering;
  // What is remembered of conversations (session/session_store.h); spacing.prompt_tokens 0: nothing.
  SessionOptions sessions;
  CheckpointSpacing spacing;
  // Of a device's memory for routed experts; the others are read from the machine's. Default: all of them where they
  // fit, else as many as fit.
  std::optional<uint64_t> expert_device_bytes;
  std::optional<uint64_t> kv_bytes;  // for KV pages of running and remembered sequences; default: memory_plan.h
  std::string kv_disk_dir;           // empty: nothing outlives the process
  uint64_t kv_disk_bytes = uint64_t{4} << 30;
  // What runs the steps. Empty: the model; tests of what stands on the engine need none. forward() is not there then.
  std::function<std::unique_ptr<StepRunner>(const ForwardLimits&, const Hyperparams&)> make_runner;
};

// The tokenizer of a model file, for programs that need no model. Null when the file has no vocabulary.
Result<std::unique_ptr<Tokenizer>> load_tokenizer(const GgufFile& file);

class Engine {
 public:
  static Result<std::unique_ptr<Engine>> load(const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Null when the file has no vocabulary: then only requests made of token ids can run, and they give no text.
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }
  const Hyperparams& hyperparams() const { return model_->hyperparams; }
  const Model& model() const { return *model_; }
  const std::string& model_name() const { return model_name_; }  // general.name, else the file's name
  ChatFormat chat_format() const { return chat_format_; }
  int32_t ctx_tokens() const { return cache_->limits().ctx_tokens; }
  NumericProfile profile() const { return backend_->profile(); }
  // Of requests that name none.
  const SteeringSettings& steering() const { return steering_settings_; }
  const MemoryPlan& memory_plan() const { return plan_; }

  // Renders and encodes a conversation: a request with prompt and output settings; sampling, limits, sink and cancel
  // flag are the caller's to add. `options.format` is replaced by chat_format(). Errors: those of render(),
  // kContextLength for a prompt that does not fit, kUnsupported without a vocabulary.
  Result<GenerateRequest> prepare(const Conversation& conversation, RenderOptions options) const;
  // Compiles request.output.rules; again after every change of them. Errors: those of AnswerGrammar::compile().
  Result<void> bind_rules(GenerateRequest& request) const;

  Scheduler& scheduler() { return *scheduler_; }
  ForwardPass& forward() { return *forward_; }
  KvCache& kv_cache() { return *cache_; }
  SessionStore* sessions() { return sessions_.get(); }  // null: nothing is remembered

 private:
  Engine() = default;
  Result<void> plan(const EngineOptions& options, const GgufFile& file, const Hyperparams& hyperparams);
  Result<void> read_metadata(const EngineOptions& options);
  Result<void> allocate(const EngineOptions& options);

  // In the order of dependence: the last is destroyed first.
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<Steering> steering_;  // null: no directions
  SteeringSettings steering_settings_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<RuleCompiler> rule_compiler_;  // null without a tokenizer
  std::string model_name_;
  ChatFormat chat_format_ = ChatFormat::kPreview;
  MemoryPlan plan_;
  ForwardLimits limits_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<ForwardPass> forward_;  // null with EngineOptions::make_runner
  std::unique_ptr<StepRunner> runner_;    // null without
  std::unique_ptr<SessionStore> sessions_;
  std::unique_ptr<Scheduler> scheduler_;
};

}  // namespace ds4
