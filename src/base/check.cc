#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace ds4 {

void check_failed(std::string_view condition, const char* file, int line, std::string_view explanation) {
  fmt::print(stderr, "{}:{}: CHECK({}) failed: {}\n", file, line, condition, explanation);
  std::fflush(stderr);
  std::abort();
}

}  // namespace ds4
