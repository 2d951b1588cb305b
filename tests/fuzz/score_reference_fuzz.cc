// Any bytes give an error or saved logits whose every row can be compared with another.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "tools/score/reference_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto gguf = ds4::GgufFile::from_bytes(std::as_bytes(std::span(data, size)), "input");
  if (!gguf.ok()) return 0;
  auto parsed = ds4::ReferenceFile::from_gguf(gguf.take_value());
  if (!parsed.ok()) return 0;
  ds4::ReferenceFile file = parsed.take_value();
  static_cast<void>(file.plan(256));
  // A vocabulary may be large where rows are short.
  const std::vector<float> candidate(static_cast<size_t>(std::min(file.info().n_vocab, 1 << 16)));
  for (int64_t i = 0; i < std::min<int64_t>(file.n_scored(), 8); ++i) {
    static_cast<void>(file.nll(i));
    const auto row = file.row(i);
    if (row.ok() && file.info().n_vocab <= 1 << 16) static_cast<void>(ds4::compare_rows(row.value(), candidate));
  }
  return 0;
}
