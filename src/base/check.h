#pragma once

// CHECK and DCHECK: programmer errors. A failed CHECK prints the condition, the place and a formatted
// explanation and aborts; it is never used for bad input, which is an Error (base/error.h).
// CHECK is always on. DCHECK vanishes with NDEBUG and may stand in inner loops.

#include <fmt/format.h>

#include <string_view>

namespace ds4 {

[[noreturn]] void check_failed(std::string_view condition, const char* file, int line, std::string_view explanation);

}  // namespace ds4

#define CHECK(condition, ...)                                                          \
  do {                                                                                 \
    if (!(condition)) [[unlikely]]                                                     \
      ::ds4::check_failed(#condition, __FILE__, __LINE__, ::fmt::format(__VA_ARGS__)); \
  } while (false)

#ifdef NDEBUG
#define DCHECK(condition, ...) \
  do {                         \
  } while (false)
#else
#define DCHECK(condition, ...) CHECK(condition, __VA_ARGS__)
#endif
