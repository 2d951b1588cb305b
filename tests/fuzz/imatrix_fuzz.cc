// Any bytes give an error or an importance matrix that can be asked for any shape and merged with itself.

#include <cstdint>
#include <span>

#include "quant/imatrix.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parsed = ds4::parse_imatrix(std::as_bytes(std::span(data, size)), "input");
  if (!parsed.ok()) return 0;
  ds4::Imatrix imatrix = parsed.take_value();
  for (const ds4::ImatrixEntry& entry : imatrix.entries) {
    if (entry.sums.empty()) __builtin_trap();
    const auto n_values = static_cast<int64_t>(entry.sums.size());
    const int64_t n_slices = entry.counts.empty() ? 1 : static_cast<int64_t>(entry.counts.size());
    for (const ds4::Shape& shape : {ds4::Shape{3, n_values}, ds4::Shape{n_slices, 2, n_values / n_slices}}) {
      const auto importance = imatrix.importance(entry.tensor, shape);
      if (importance.ok() && importance.value().of_row(shape[0] - 1).size() != static_cast<size_t>(shape.back()) &&
          !importance.value().means.empty())
        __builtin_trap();
    }
  }
  const ds4::Imatrix copy = imatrix;
  static_cast<void>(imatrix.merge(copy));
  return 0;
}
