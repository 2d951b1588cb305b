#include "base/log.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace ds4 {

namespace {

constexpr std::array<std::string_view, 4> kLevelNames = {"debug", "info", "warn", "error"};
constexpr const char* kLevelVariable = "DS4_LOG";

// The one piece of process-wide state: the log is for people who run the process, not for its logic.
std::atomic<LogLevel> current_level{LogLevel::kInfo};

bool is_plain(char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\' && c != '='; }

void append_value(std::string& line, std::string_view value) {
  if (!value.empty() && std::ranges::all_of(value, is_plain)) {
    line += value;
    return;
  }
  line += '"';
  for (const char c : value) {
    if (c == '"' || c == '\\')
      line += {'\\', c};
    else if (c == '\n')
      line += "\\n";
    else if (static_cast<unsigned char>(c) < ' ' || c == '\x7F')
      line += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      line += c;
  }
  line += '"';
}

void log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (level < current_level.load(std::memory_order_relaxed)) return;
  const std::string line = format_log_line(level, event, fields) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);  // stdio locks the stream for the whole call
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  const auto found = std::ranges::find(kLevelNames, name);
  if (found == kLevelNames.end()) {
    return make_error(ErrorCode::kInvalidArgument, "log level '{}' is not known, accepted are {}", name,
                      fmt::join(kLevelNames, ", "));
  }
  return static_cast<LogLevel>(found - kLevelNames.begin());
}

void set_log_level(LogLevel level) { current_level.store(level, std::memory_order_relaxed); }

Result<void> set_log_level_from_environment() {
  const char* const name = std::getenv(kLevelVariable);
  if (name == nullptr) return {};
  auto level = parse_log_level(name);
  if (!level.ok()) return with_context(level.take_error(), kLevelVariable);
  set_log_level(level.value());
  return {};
}

std::string format_log_line(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  std::string line = fmt::format("level={} event=", kLevelNames[static_cast<size_t>(level)]);
  append_value(line, event);
  for (const LogField& field : fields) {
    line += fmt::format(" {}=", field.key);
    append_value(line, field.value);
  }
  return line;
}

void log_debug(std::string_view event, std::initializer_list<LogField> fields) { log(LogLevel::kDebug, event, fields); }
void log_info(std::string_view event, std::initializer_list<LogField> fields) { log(LogLevel::kInfo, event, fields); }
void log_warn(std::string_view event, std::initializer_list<LogField> fields) { log(LogLevel::kWarn, event, fields); }
void log_error(std::string_view event, std::initializer_list<LogField> fields) { log(LogLevel::kError, event, fields); }

}  // namespace ds4
