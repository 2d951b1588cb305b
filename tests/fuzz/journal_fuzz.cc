#include <cstdint>
#include <string_view>

#include "quant/partial_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto journal = ds4::parse_journal(text, "fuzz");
  if (!journal.ok()) return 0;
  for (const ds4::JournalLine& line : journal.value().lines) {
    CHECK(text.find(line.note) != std::string_view::npos, "a note of {} bytes from nowhere", line.note.size());
  }
  return 0;
}
