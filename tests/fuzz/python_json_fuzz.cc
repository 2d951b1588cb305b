// Any bytes give an error or a value whose dump reads back as the same value; what RFC 8259 allows, Python allows.

#include <cstdint>
#include <string_view>

#include "chat/python_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto value = ds4::parse_json(text);
  if (!value.ok()) {
    if (ds4::parse_json(text, ds4::JsonDialect::kStandard).ok()) __builtin_trap();
    return 0;
  }
  const std::string dumped = ds4::dump_json(value.value());
  const auto again = ds4::parse_json(dumped);
  if (!again.ok() || ds4::dump_json(again.value()) != dumped) __builtin_trap();
  return 0;
}
