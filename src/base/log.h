#pragma once

// The log of the programs: one line of key=value fields per event, to stderr. Library code below engine/ does
// not log, it returns. The level is set once at start, from a flag or from the environment variable DS4_LOG
// (debug, info, warn or error; info by default). Any thread may log; lines do not mix.

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"

namespace ds4 {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

struct LogField {
  template <class T>
  LogField(std::string_view field_key, const T& field_value) : key(field_key), value(fmt::format("{}", field_value)) {}

  std::string_view key;
  std::string value;
};

Result<LogLevel> parse_log_level(std::string_view name);
void set_log_level(LogLevel level);
// Sets the level that DS4_LOG names, if it is set.
Result<void> set_log_level_from_environment();

// log_info("kv restored", {{"tokens", n}, {"ms", t}}) prints: level=info event="kv restored" tokens=512 ms=3.5
void log_debug(std::string_view event, std::initializer_list<LogField> fields = {});
void log_info(std::string_view event, std::initializer_list<LogField> fields = {});
void log_warn(std::string_view event, std::initializer_list<LogField> fields = {});
void log_error(std::string_view event, std::initializer_list<LogField> fields = {});

// The line without its end; values that contain anything but plain characters are quoted and escaped.
std::string format_log_line(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

}  // namespace ds4
