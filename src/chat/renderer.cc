#include "chat/renderer.h"

#include <array>
#include <memory>
#include <optional>
#include <utility>

#include "chat/dsml_writer.h"
#include "chat/fixed_texts.h"
#include "chat/python_json.h"
#include "chat/replay_map.h"
#include "chat/segment_builder.h"
#include "chat/turns.h"

namespace ds4 {
namespace {

constexpr std::array<std::pair<std::string_view, ControlToken>, 6> kTasks{{
    {"action", ControlToken::kAction},
    {"query", ControlToken::kQuery},
    {"authority", ControlToken::kAuthority},
    {"domain", ControlToken::kDomain},
    {"title", ControlToken::kTitle},
    {"read_url", ControlToken::kReadUrl},
}};

Result<std::string_view> effort_text(const RenderOptions& options) {
  const bool is_preview = options.format == ChatFormat::kPreview;
  std::string_view text;
  switch (options.effort) {
    case ReasoningEffort::kDefault: break;
    case ReasoningEffort::kLow:
      if (is_preview) {
        return make_error(ErrorCode::kInvalidArgument,
                          "reasoning effort: the preview chat format knows 'high' and 'max', found 'low'");
      }
      break;
    case ReasoningEffort::kHigh:
      if (!is_preview) text = kMaximumEffortText;
      break;
    case ReasoningEffort::kMax: text = is_preview ? kMaximumEffortText : kBeyondMaximumEffortText; break;
  }
  return options.thinking_mode == ThinkingMode::kThinking ? text : std::string_view{};
}

Result<std::string> normalised_json(std::string_view text, std::string_view field) {
  Result<JsonValue> value = parse_json(text);
  if (!value.ok()) return with_context(value.take_error(), field);
  return dump_json(value.value());
}

class Renderer {
 public:
  Renderer(const Turns& turns, const RenderOptions& options) : turns_(turns), options_(options) {}

  Result<RenderedPrompt> render(std::string_view effort, bool has_context) && {
    if (options_.add_bos && !has_context) out_.add_control(ControlToken::kBos);
    for (size_t i = 0; i < turns_.turns.size(); ++i) {
      const Turn& turn = turns_.turns[i];
      if (turn.in_context) continue;
      if (i == 0) out_.add_text(effort);
      if (Result<void> done = render_turn(i); !done.ok()) {
        return with_context(done.take_error(),
                            fmt::format("message {} ({})", turn.message_index, role_name(turn.role())));
      }
    }
    prompt_.segments = out_.take();
    prompt_.starts_in_thinking =
        !prompt_.segments.empty() && prompt_.segments.back().control == ControlToken::kThinkBegin;
    return std::move(prompt_);
  }

 private:
  bool is_thinking() const { return options_.thinking_mode == ThinkingMode::kThinking; }
  bool is_last(size_t i) const { return i + 1 == turns_.turns.size(); }

  Result<void> render_turn(size_t i) {
    const Turn& turn = turns_.turns[i];
    switch (turn.role()) {
      case Role::kSystem:
        out_.add_text(turn.first->content);
        TRY(render_definitions(*turn.first));
        break;
      case Role::kDeveloper:
        if (turn.first->content.empty()) return make_error(ErrorCode::kInvalidArgument, "content: must not be empty");
        start_turn(ControlToken::kUser);
        out_.add_text(turn.first->content);
        TRY(render_definitions(*turn.first));
        break;
      case Role::kUser:
      case Role::kTool: render_user(turn); break;
      case Role::kLatestReminder:
        start_turn(ControlToken::kLatestReminder);
        out_.add_text(turn.first->content);
        break;
      case Role::kAssistant: render_assistant(i); break;
    }
    return render_transition(i);
  }

  void start_turn(ControlToken marker) {
    // Nothing but BOS so far is not worth a checkpoint.
    if (out_.size() > 1) prompt_.anchors.push_back(out_.size());
    out_.add_control(marker);
  }

  Result<void> render_definitions(const Message& message) {
    if (!message.tools.empty()) {
      out_.add_template("\n\n");
      out_.add_template(kToolsBlockHead);
      for (size_t i = 0; i < message.tools.size(); ++i) {
        if (i > 0) out_.add_template("\n");
        out_.add_text(TRY(normalised_json(message.tools[i], fmt::format("tools[{}].function", i))));
      }
      out_.add_template(kToolsBlockTail);
    }
    if (message.response_format) {
      out_.add_template("\n\n");
      out_.add_template(kResponseFormatHead);
      out_.add_text(TRY(normalised_json(*message.response_format, "response_format")));
    }
    return {};
  }

  void render_user(const Turn& turn) {
    start_turn(ControlToken::kUser);
    std::string_view separator;
    for (const Message* block : turn.blocks) {
      out_.add_text(separator);
      separator = "\n\n";
      if (block->role == Role::kTool) {
        render_tool_result(*block);
      } else {
        out_.add_text(block->content);
      }
    }
  }

  void render_tool_result(const Message& message) {
    out_.add_text("<tool_result>");
    if (message.parts.empty()) out_.add_text(message.content);
    std::string_view separator;
    for (const ContentPart& part : message.parts) {
      out_.add_text(separator);
      separator = "\n\n";
      out_.add_text(part.type == "text" ? part.text : fmt::format("[Unsupported {}]", part.type));
    }
    out_.add_text("</tool_result>");
  }

  std::shared_ptr<const SampledCalls> find_sampled(const Message& message) const {
    if (options_.replay == nullptr || message.tool_calls.empty()) return nullptr;
    return options_.replay->find(message.tool_calls);
  }

  // The marker and the opening think token belong to the turn before.
  void render_assistant(size_t i) {
    const Message& message = *turns_.turns[i].first;
    const bool follows_task = i > 0 && !task_of(turns_.turns[i - 1]).empty();
    const bool is_kept = !turns_.drops_reasoning || static_cast<ptrdiff_t>(i) > turns_.last_user;
    const std::shared_ptr<const SampledCalls> sampled = find_sampled(message);
    if (is_thinking() && !follows_task && is_kept) {
      out_.add_text(message.reasoning_content);
      const bool calls_end_it = sampled != nullptr && sampled->ends_reasoning && message.content.empty();
      if (!calls_end_it) out_.add_control(ControlToken::kThinkEnd);
    }
    out_.add_text(message.content);
    if (sampled != nullptr) {
      write_sampled_calls(*sampled, out_);
    } else if (!message.tool_calls.empty()) {
      out_.add_template("\n\n");
      write_tool_calls(message.tool_calls, out_);
    }
    if (!message.without_eos) out_.add_control(ControlToken::kEos);
  }

  static std::string_view task_of(const Turn& turn) {
    return turn.first->role == Role::kTool ? std::string_view{} : std::string_view(turn.first->task);
  }

  // What the assistant's answer starts with, when one follows.
  Result<void> render_transition(size_t i) {
    if (!is_last(i)) {
      const Role next = turns_.turns[i + 1].role();
      if (next != Role::kAssistant && next != Role::kLatestReminder) return {};
    }
    const Turn& turn = turns_.turns[i];
    if (const std::string_view task = task_of(turn); !task.empty()) return render_task(task, i);
    if (!turn.is_user_like()) return {};
    const bool opens = is_thinking() && (!turns_.drops_reasoning || static_cast<ptrdiff_t>(i) >= turns_.last_user);
    start_assistant(opens, i);
    return {};
  }

  Result<void> render_task(std::string_view task, size_t i) {
    for (const auto& [name, token] : kTasks) {
      if (name != task) continue;
      if (token == ControlToken::kAction) start_assistant(is_thinking(), i);
      out_.add_control(token);
      return {};
    }
    return make_error(ErrorCode::kInvalidArgument,
                      "task: expected action, query, authority, domain, title or read_url, found '{}'", task);
  }

  void start_assistant(bool opens_thinking, size_t i) {
    out_.add_control(ControlToken::kAssistant);
    // The next request keeps the marker but may drop the reasoning.
    if (is_last(i)) prompt_.anchors.push_back(out_.size());
    out_.add_control(opens_thinking ? ControlToken::kThinkBegin : ControlToken::kThinkEnd);
  }

  const Turns& turns_;
  const RenderOptions& options_;
  SegmentBuilder out_;
  RenderedPrompt prompt_;
};

}  // namespace

std::string RenderedPrompt::to_text() const {
  std::string text;
  for (const PromptSegment& segment : segments) {
    text += segment.control ? control_token_text(*segment.control) : std::string_view(segment.text);
  }
  return text;
}

Result<RenderedPrompt> render(const Conversation& conversation, const RenderOptions& options) {
  const std::string_view effort = TRY(effort_text(options));
  const Turns turns = make_turns(conversation, options);
  return Renderer(turns, options).render(effort, conversation.n_context_messages > 0);
}

}  // namespace ds4
