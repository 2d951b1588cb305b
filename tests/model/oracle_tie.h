#pragma once

// One choice in the golden vectors is a coin toss: in "pro", at position 304 of layer 2, the indexer's scores of rows 3
// and 69 for the last place differ by 6e-7, less than either program's F32 rounding, and the oracle took the row that
// every implementation here ranks second. OracleTieOps makes the oracle's choice there, and checks that it is such a
// tie; with it every later position agrees as closely as the earlier ones.

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "ops/ops.h"
#include "ops/reference/indexer.h"

namespace ds4::test {

struct OracleTie {
  uint64_t indexer_page_bytes_offset;  // names the layer
  int32_t position;
  int32_t our_row;
  int32_t oracle_row;
};

template <class Base>
class OracleTieOps final : public Base {
 public:
  template <class... Args>
  explicit OracleTieOps(const OracleTie& tie, const Args&... args) : Base(args...), tie_(tie) {}

  void index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& selected,
                    const TensorView& n_selected) override {
    Base::index_select(args, batch, kv, selected, n_selected);
    if (args.indexer.page_bytes_offset != tie_.indexer_page_bytes_offset) return;
    for_each_row(batch, [&](const SequenceSpan& span, int64_t row, int32_t position) {
      if (position != tie_.position || span.slot != 0) return;
      int32_t* first = selected.i32() + row * args.top_k;
      int32_t* last = first + n_selected.i32()[row];
      EXPECT_LT(std::fabs(score(args, kv, span, row, tie_.our_row) - score(args, kv, span, row, tie_.oracle_row)),
                2e-6);  // a few F32 roundings
      std::replace(first, last, tie_.our_row, tie_.oracle_row);
      std::sort(first, last);
    });
  }

 private:
  static double score(const IndexSelectArgs& args, const KvMemory& kv, const SequenceSpan& span, int64_t row,
                      int32_t key_row) {
    const int64_t n_heads = args.query.shape[1];
    const int64_t width = args.query.shape[2];
    std::vector<float> key(static_cast<size_t>(width));
    unpack_kv_row(compressed_row(kv, args.indexer, span.slot, key_row), args.indexer.format, key.data());
    return reference::index_score<double>(args.query.f32() + row * n_heads * width, args.weights.f32() + row * n_heads,
                                          key.data(), n_heads, width);
  }

  OracleTie tie_;
};

}  // namespace ds4::test
