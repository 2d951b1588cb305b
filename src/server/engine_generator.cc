#include "server/engine_generator.h"

#include <utility>

#include "chat/renderer.h"

namespace ds4 {

EngineGenerator::EngineGenerator(Engine& engine, const GeneratorOptions& options)
    : engine_(engine),
      model_{.id = model_id_from_name(engine.model_name()),
             .name = engine.model_name(),
             .created_s = unix_time_s(),
             .ctx_tokens = engine.ctx_tokens(),
             .default_max_tokens = options.default_max_tokens,
             .thinks_by_default = options.thinks_by_default,
             .default_effort = options.default_effort},
      thread_(engine.scheduler(), options.max_waiting) {}

Result<GenerateRequest> EngineGenerator::prepare(const Conversation& conversation, const RenderOptions& options) const {
  return engine_.prepare(conversation, options);
}

Result<void> EngineGenerator::submit(GenerateRequest request) { return thread_.submit(std::move(request)); }

Result<size_t> EngineGenerator::count_prompt_tokens(const Conversation& conversation,
                                                    const RenderOptions& options) const {
  RenderOptions with_format = options;
  with_format.format = engine_.chat_format();
  const RenderedPrompt prompt = TRY(render(conversation, with_format));
  return engine_.tokenizer()->encode(prompt.segments).size();
}

}  // namespace ds4
