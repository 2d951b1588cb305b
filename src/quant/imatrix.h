#pragma once

// Importance of the columns of weight matrices: how strongly each input of a matrix is driven on sample text, as the
// mean of x^2. A quantiser spends its precision accordingly. Statistics are kept as sums and counts, so that files
// collected on different texts or machines can be merged; docs/file_formats.md describes both file forms.
// A matrix may have several slices, each with inputs of its own: the experts of a stacked tensor, the groups of a
// block-diagonal one. A slice covers rows / n_slices consecutive rows. Plain values; reading is const and thread safe.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace ds4 {

struct ImatrixEntry {
  std::string tensor;
  std::vector<float> sums;     // [n_slices, n_columns], of x^2
  std::vector<double> counts;  // [n_slices], inputs seen; empty: unknown, `sums` are means (legacy files)
};

// What a quantiser needs of one tensor.
struct ColumnImportance {
  int64_t n_columns = 0;
  int64_t rows_per_slice = 0;
  std::vector<float> means;  // [n_slices, n_columns]; 1 where a slice was never used; empty: nothing is known

  // Of row `row` of the tensor, with experts stacked; empty when nothing is known.
  std::span<const float> of_row(int64_t row) const;
};

struct Imatrix {
  std::vector<ImatrixEntry> entries;
  std::vector<std::string> datasets;  // where the text came from
  int64_t n_chunks = 0;
  int64_t chunk_tokens = 0;  // of a whole chunk; 0: unknown

  const ImatrixEntry* find(std::string_view tensor) const;
  bool has_counts() const;  // of every entry
  // For a tensor of that shape, outermost first. Nothing is known of a tensor without an entry; an entry whose size
  // does not fit the shape is an error.
  Result<ColumnImportance> importance(std::string_view tensor, const Shape& shape) const;

  // Adds the statistics of `other`. Errors: an entry of another size, means without counts.
  Result<void> merge(const Imatrix& other);
};

// Either form, told apart by its first bytes. Every value is finite and not negative.
Result<Imatrix> read_imatrix(const std::string& path);
// `name` stands for the path in messages.
Result<Imatrix> parse_imatrix(std::span<const std::byte> bytes, const std::string& name);

// GGUF with sums and counts (mergeable). Precondition of both: has_counts().
Result<void> write_imatrix(const Imatrix& imatrix, const std::string& path);
// llama.cpp's older form: means only. The groups of block-diagonal matrices are joined, since the form has none.
Result<void> write_legacy_imatrix(const Imatrix& imatrix, const std::string& path);

}  // namespace ds4
