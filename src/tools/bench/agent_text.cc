#include "tools/bench/agent_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace ds4 {
namespace {

constexpr std::array<std::string_view, 128> kWords{
    "the",     "a",      "file",    "value",   "list",   "and",     "of",      "to",     "read",    "write",
    "error",   "test",   "when",    "is",      "not",    "token",   "parse",   "state",  "queue",   "index",
    "page",    "row",    "before",  "after",   "with",   "without", "first",   "last",   "number",  "name",
    "path",    "open",   "close",   "check",   "result", "return",  "call",    "count",  "size",    "buffer",
    "thread",  "lock",   "wait",    "start",   "stop",   "user",    "client",  "server", "request", "answer",
    "message", "part",   "whole",   "text",    "line",   "word",    "byte",    "bit",    "table",   "column",
    "key",     "map",    "set",     "tree",    "node",   "leaf",    "branch",  "merge",  "commit",  "change",
    "branch",  "build",  "run",     "fails",   "passes", "because", "if",      "then",   "else",    "each",
    "every",   "some",   "none",    "only",    "again",  "never",   "always",  "option", "flag",    "default",
    "format",  "print",  "log",     "warning", "debug",  "release", "version", "update", "remove",  "add",
    "insert",  "find",   "search",  "replace", "sort",   "copy",    "move",    "new",    "old",     "same",
    "other",   "longer", "shorter", "must",    "may",    "should",  "this",    "that",   "it",      "its",
    "on",      "in",     "from",    "by",      "for",    "as",      "are",     "was"};

std::string quoted(std::string_view text) { return fmt::format("\"{}\"", text); }

}  // namespace

int32_t AgentText::number(int32_t least, int32_t most) {
  return least + static_cast<int32_t>(rng_.next() % static_cast<uint64_t>(most - least + 1));
}

std::string AgentText::hex(int n_digits) {
  std::string text;
  for (int i = 0; i < n_digits; ++i) text += "0123456789abcdef"[rng_.next() % 16];
  return text;
}

std::string_view AgentText::word() { return kWords[rng_.next() % kWords.size()]; }

std::string AgentText::name() { return fmt::format("{}_{}_{}", word(), word(), word()); }

std::string AgentText::path() { return fmt::format("src/{}/{}_{}.cc", word(), word(), word()); }

std::string AgentText::phrase() {
  return fmt::format("{} {} {} {} {} {} {} {}", word(), word(), word(), word(), word(), word(), word(), word());
}

std::string AgentText::prose(size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) {
    std::string sentence;
    const int32_t n_words = number(6, 14);
    for (int32_t i = 0; i < n_words; ++i) sentence += fmt::format("{}{}", i > 0 ? " " : "", word());
    sentence[0] = static_cast<char>(sentence[0] - 'a' + 'A');
    text += fmt::format("{}{}.", text.empty() ? "" : number(0, 5) == 0 ? "\n\n" : " ", sentence);
  }
  return text;
}

std::string AgentText::code_line() {
  switch (number(0, 4)) {
    case 0: return fmt::format("  const auto {} = {}({}, {});\n", name(), name(), word(), number(0, 4096));
    case 1: return fmt::format("  if ({} != {}::{}) return {};\n", word(), word(), name(), word());
    case 2:
      return fmt::format("    {}.push_back({{.{} = {}, .{} = \"{}\"}});\n", word(), word(), number(0, 99), word(),
                         name());
    case 3: return fmt::format("  // {} {} {} {} {} {}.\n", word(), word(), word(), word(), word(), word());
    default: return fmt::format("  for (const auto& {} : {}) {}.{}({});\n", word(), word(), word(), name(), word());
  }
}

std::string AgentText::listing_line() {
  switch (number(0, 3)) {
    case 0:
      return fmt::format("{}:{}:{}: {} {} {} '{}'\n", path(), number(1, 900), number(1, 80), word(), word(), word(),
                         name());
    case 1:
      return fmt::format("-rw-r--r-- 1 user user {:6} {} {:02} {:02}:{:02} {}\n", number(100, 99999), "Nov",
                         number(1, 30), number(0, 23), number(0, 59), path());
    case 2: return fmt::format("[{}/{}] {} {} {}\n", number(1, 99), 99, word(), word(), path());
    default: return code_line();
  }
}

std::string AgentText::code(size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) text += code_line();
  return text;
}

std::string AgentText::listing(size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) text += listing_line();
  return text;
}

std::string AgentText::tool(std::string_view tool_name, size_t n_bytes) {
  std::string properties;
  const int32_t n_properties = number(1, 1 + static_cast<int32_t>(std::min<size_t>(n_bytes / 500, 4)));
  constexpr std::array<std::string_view, 4> kTypes{"string", "number", "boolean", "string"};
  for (int32_t i = 0; i < n_properties; ++i) {
    properties += fmt::format("{}{}: {{\"type\": {}, \"description\": {}}}", i > 0 ? ", " : "", quoted(name()),
                              quoted(kTypes[static_cast<size_t>(number(0, 3))]), quoted(phrase()));
  }
  const std::string parameters =
      fmt::format("{{\"type\": \"object\", \"properties\": {{{}}}, \"required\": [], \"additionalProperties\": false}}",
                  properties);
  const size_t n_rest = n_bytes > parameters.size() + 100 ? n_bytes - parameters.size() - 100 : 40;
  std::string description;
  for (const char c : prose(n_rest)) description += c == '\n' ? std::string("\\n") : std::string(1, c);
  return fmt::format("{{\"name\": {}, \"description\": {}, \"parameters\": {}}}", quoted(tool_name),
                     quoted(description), parameters);
}

}  // namespace ds4
