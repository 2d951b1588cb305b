#include "tools/bench/agent_answer.h"

#include <algorithm>
#include <span>
#include <utility>

#include "chat/renderer.h"

namespace ds4 {
namespace {

// The value of a parameter that is no string stands in the text behind this.
constexpr std::string_view kJsonValue = "string=\"false\">";

void respell_values(std::vector<PromptSegment>& segments) {
  for (PromptSegment& segment : segments) {
    const size_t tag = segment.text.find(kJsonValue);
    if (segment.control || tag == std::string::npos) continue;
    const size_t begin = tag + kJsonValue.size();
    // "</" of the closing tag follows the value.
    const size_t end = segment.text.rfind("</");
    if (end == std::string::npos || end < begin) continue;
    segment.text.replace(begin, end - begin, without_json_spaces(segment.text.substr(begin, end - begin)));
  }
}

}  // namespace

std::string without_json_spaces(std::string_view json) {
  std::string out;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string && c == '\\' && i + 1 < json.size()) {
      out += c;
      out += json[++i];
      continue;
    }
    if (c == '"') in_string = !in_string;
    if (in_string || (c != ' ' && c != '\n' && c != '\t' && c != '\r')) out += c;
  }
  return out;
}

TurnRenderer::TurnRenderer(const Tokenizer& tokenizer, const SampledForm& form, uint64_t seed)
    : tokenizer_(tokenizer), form_(form), rng_(seed) {
  if (form.recut_share <= 0) return;
  for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    if (!tokenizer.is_added(id) && !tokenizer.is_control(id)) ids_.emplace(tokenizer.token_bytes(id), id);
  }
}

std::vector<int32_t> TurnRenderer::recut(std::vector<int32_t> tokens) {
  if (form_.recut_share <= 0) return tokens;
  std::vector<int32_t> out;
  for (const int32_t token : tokens) {
    const std::string_view bytes = tokenizer_.token_bytes(token);
    if (tokenizer_.is_added(token) || tokenizer_.is_control(token) || bytes.size() < 2 ||
        static_cast<double>(rng_.next_unit()) >= form_.recut_share) {
      out.push_back(token);
      continue;
    }
    const size_t cut = 1 + static_cast<size_t>(rng_.next() % (bytes.size() - 1));
    const auto left = ids_.find(std::string(bytes.substr(0, cut)));
    const auto right = ids_.find(std::string(bytes.substr(cut)));
    if (left == ids_.end() || right == ids_.end()) {
      out.push_back(token);
    } else {
      out.push_back(left->second);
      out.push_back(right->second);
    }
  }
  return out;
}

int32_t TurnRenderer::count_prompt(const Conversation& conversation, const RenderOptions& options) const {
  const Result<RenderedPrompt> prompt = ds4::render(conversation, options);
  return prompt.ok() ? static_cast<int32_t>(tokenizer_.encode(prompt.value().segments).size()) : 0;
}

Result<RenderedTurn> TurnRenderer::render(const Conversation& conversation, const Message& answer,
                                          const RenderOptions& options) {
  RenderOptions canonical = options;
  canonical.replay = nullptr;
  const RenderedPrompt prompt = TRY(ds4::render(conversation, canonical));
  Conversation whole = conversation;
  whole.messages.push_back(answer);
  RenderedPrompt full = TRY(ds4::render(whole, canonical));
  const size_t n = prompt.segments.size();
  if (full.segments.size() <= n || !std::equal(prompt.segments.begin(), prompt.segments.end(), full.segments.begin()))
    return make_error(ErrorCode::kInternal, "an answer of {} segments does not continue its prompt",
                      full.segments.size());
  std::vector<PromptSegment> answered(full.segments.begin() + static_cast<std::ptrdiff_t>(n), full.segments.end());
  RenderedTurn turn{.prompt = tokenizer_.encode(prompt.segments),
                    .answer = tokenizer_.encode(answered),
                    .starts_in_thinking = prompt.starts_in_thinking};
  turn.sent = turn.prompt;
  if (options.replay != nullptr) {
    const RenderedPrompt replayed = TRY(ds4::render(conversation, options));
    turn.sent = tokenizer_.encode(replayed.segments);
  }
  if (form_.compact_json) respell_values(answered);
  turn.sampled = recut(tokenizer_.encode(answered));
  return turn;
}

}  // namespace ds4
