#include "chat/markup.h"

#include <algorithm>

#include "chat/dsml.h"

namespace ds4 {
namespace {

// Never part of well-formed UTF-8.
constexpr char kThinkBeginByte = '\xFD';
constexpr char kThinkEndByte = '\xFE';
constexpr char kDsmlByte = '\xFF';

Markup make_markup(std::string think_begin, std::string think_end, std::string dsml) {
  Markup markup;
  markup.think_begin = std::move(think_begin);
  markup.think_end = std::move(think_end);
  markup.tag_opener = "<" + dsml;
  markup.tag_closer = "</" + dsml;
  markup.block_opener = markup.tag_opener + std::string(kDsmlBlock) + ">";
  markup.parameter_closer = markup.tag_closer + std::string(kDsmlParameter) + ">";
  markup.dsml = std::move(dsml);
  return markup;
}

}  // namespace

Markup spelled_markup() {
  const auto text = [](ControlToken token) { return std::string(control_token_text(token)); };
  return make_markup(text(ControlToken::kThinkBegin), text(ControlToken::kThinkEnd), text(ControlToken::kDsml));
}

Markup token_markup() { return make_markup({kThinkBeginByte}, {kThinkEndByte}, {kDsmlByte}); }

std::optional<ControlToken> control_of_markup_byte(char byte) {
  switch (byte) {
    case kThinkBeginByte: return ControlToken::kThinkBegin;
    case kThinkEndByte: return ControlToken::kThinkEnd;
    case kDsmlByte: return ControlToken::kDsml;
    default: return std::nullopt;
  }
}

std::string spell_controls(std::string_view text) {
  std::string spelled;
  spelled.reserve(text.size());
  for (const char c : text) {
    if (const std::optional<ControlToken> control = control_of_markup_byte(c)) {
      spelled += control_token_text(*control);
    } else {
      spelled.push_back(c);
    }
  }
  return spelled;
}

size_t partial_marker_size(std::string_view text, std::string_view marker) {
  if (marker.empty()) return 0;
  for (size_t n = std::min(text.size(), marker.size() - 1); n > 0; --n) {
    if (text.ends_with(marker.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace ds4
