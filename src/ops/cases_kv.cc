// Op cases on KV memory: several sequences in shuffled slots and pages, at positions around the ends of windows, rings
// and pages. Only what a sequence has written is finite; everything else in frontiers and pages is NaN.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "ops/case_builder.h"
#include "ops/kv_rows.h"

namespace ds4 {

namespace {

constexpr float kRowScale = 2.0f;                  // rows are uniform in +-this
constexpr double kLargestValue = 1.1 * kRowScale;  // after rounding to FP8

struct Stretch {
  int32_t slot;
  int32_t first_position;
  int32_t n_rows;
};

struct KvCase {
  std::string_view variant;
  int32_t ratio = 0;
  int32_t window = 8;
  int32_t width = 32;
  int32_t n_rot = 8;
  std::vector<Stretch> stretches = {};
};

int32_t count_rows(const KvCase& c) {
  int32_t n = 0;
  for (const Stretch& stretch : c.stretches) n += stretch.n_rows;
  return n;
}

// Which compressed rows are in the pages before the op: compress finds those of earlier steps, attention also those
// that close in this batch.
enum class Pages : uint8_t { kBeforeBatch, kWithBatch };

// The KV memory of a case: layout, contents, and the batch. Offsets are computed here and not by ops/kv_access.h, which
// is part of what is tested.
class KvFixture {
 public:
  KvFixture(CaseBuilder& b, const KvCase& c, Pages pages) : b_(b) {
    place(c);
    make_page_table(c);
    frontiers_.assign(static_cast<size_t>(n_slots_) * frontier_bytes_, std::byte{0xFF});
    pages_.assign(static_cast<size_t>(n_pages_) * page_bytes_, std::byte{0xFF});
    for (const Stretch& stretch : c.stretches) write_past(stretch, pages);
    add_arrays(c);
  }
  const LayerKv& layer() const { return layer_; }
  // Rewrites indexer row c as row c mod period, with integer values: equal scores.
  void repeat_index_rows(const KvCase& c, int32_t period);

  static std::vector<std::byte> packed_row(const KvRowFormat& format, Fill fill, uint64_t seed) {
    std::vector<std::byte> row(static_cast<size_t>(format.row_bytes));
    pack_kv_row(make_values(fill, format.width, seed).data(), format, row.data());
    return row;
  }

 private:
  void place(const KvCase& c);
  void make_page_table(const KvCase& c);
  void write_past(const Stretch& stretch, Pages pages);
  void write_rings(const Stretch& stretch, const CompressorKv& compressor);
  void write_compressed(const Stretch& stretch, const CompressorKv& compressor, int32_t n_compressed);
  void add_arrays(const KvCase& c);

  CompressorKv place_compressor(int32_t ratio, const KvRowFormat& format);
  static uint64_t take(uint64_t& end, int64_t bytes) {
    const uint64_t offset = end;
    end = (end + static_cast<uint64_t>(bytes) + 127) / 64 * 64;  // never adjacent: a gap of NaN
    return offset;
  }
  size_t table_index(int32_t slot, int32_t page) const {
    return static_cast<size_t>(slot) * static_cast<size_t>(max_pages_) + static_cast<size_t>(page);
  }
  std::byte* frontier(int32_t slot) { return frontiers_.data() + static_cast<size_t>(slot) * frontier_bytes_; }
  std::byte* compressed_row(const CompressorKv& compressor, int32_t slot, int32_t row) {
    const int32_t first_position = row * compressor.ratio;
    const int32_t page = page_table_[table_index(slot, first_position / kPageTokens)];
    return pages_.data() + static_cast<size_t>(page) * page_bytes_ + compressor.page_bytes_offset +
           static_cast<size_t>(first_position % kPageTokens / compressor.ratio * compressor.format.row_bytes);
  }

  CaseBuilder& b_;
  LayerKv layer_;
  int32_t n_slots_ = 0;
  int32_t n_pages_ = 0;
  int32_t max_pages_ = 0;
  uint64_t frontier_bytes_ = 64;
  uint64_t page_bytes_ = 64;
  std::vector<int32_t> page_table_;
  std::vector<std::byte> frontiers_;
  std::vector<std::byte> pages_;
};

CompressorKv KvFixture::place_compressor(int32_t ratio, const KvRowFormat& format) {
  CompressorKv compressor{.ratio = ratio, .n_lanes = ratio == 4 ? 2 : 1, .format = format};
  compressor.ring_rows = compressor.n_lanes * ratio;
  const int64_t ring_bytes = int64_t{4} * compressor.ring_rows * compressor.n_lanes * format.width;
  compressor.kv_ring_bytes_offset = take(frontier_bytes_, ring_bytes);
  compressor.score_ring_bytes_offset = take(frontier_bytes_, ring_bytes);
  compressor.page_bytes_offset = take(page_bytes_, int64_t{kPageTokens / ratio} * format.row_bytes);
  return compressor;
}

void KvFixture::place(const KvCase& c) {
  const bool exact = b_.profile() == NumericProfile::kExact;
  const KvRowFormat row = case_row_format(exact ? KvEncoding::kF32 : KvEncoding::kFp8, c.width, c.n_rot);
  const KvRowFormat index_row = case_row_format(exact ? KvEncoding::kF32 : KvEncoding::kFp4, 2 * c.width, c.n_rot);
  layer_.ratio = c.ratio;
  layer_.window = c.window;
  layer_.window_format = row;
  layer_.window_bytes_offset = take(frontier_bytes_, int64_t{c.window} * row.row_bytes);
  if (c.ratio != 0) layer_.attention = place_compressor(c.ratio, row);
  if (c.ratio == 4) layer_.indexer = place_compressor(c.ratio, index_row);
}

// Pages of all sequences in shuffled order; entries that no sequence uses name the last page, which stays NaN.
void KvFixture::make_page_table(const KvCase& c) {
  for (const Stretch& stretch : c.stretches) {
    n_slots_ = std::max(n_slots_, stretch.slot + 1);
    max_pages_ = std::max(max_pages_, (stretch.first_position + stretch.n_rows) / kPageTokens + 2);
  }
  n_slots_ += 1;  // one without a sequence
  max_pages_ = std::max(max_pages_, 1);
  std::vector<int32_t> free_pages(static_cast<size_t>(n_slots_ * max_pages_));
  std::iota(free_pages.begin(), free_pages.end(), 0);
  for (size_t i = free_pages.size() - 1; i > 0; --i) {
    std::swap(
        free_pages[i],
        free_pages[static_cast<size_t>(pick(b_.seed("page_table"), static_cast<int64_t>(i), static_cast<int32_t>(i)))]);
  }
  n_pages_ = n_slots_ * max_pages_ + 1;
  page_table_.assign(free_pages.size(), n_pages_ - 1);
  for (const Stretch& stretch : c.stretches) {
    for (int32_t page = 0; page <= (stretch.first_position + stretch.n_rows - 1) / kPageTokens; ++page) {
      page_table_[table_index(stretch.slot, page)] = free_pages.back();
      free_pages.pop_back();
    }
  }
}

void KvFixture::write_past(const Stretch& stretch, Pages pages) {
  const int32_t past = stretch.first_position;
  for (int32_t p = std::max(0, past - layer_.window); p < past; ++p) {
    const auto row =
        packed_row(layer_.window_format, {.scale = kRowScale}, b_.seed("window") + p + 1000 * stretch.slot);
    std::ranges::copy(row, frontier(stretch.slot) + layer_.window_bytes_offset + p % layer_.window * std::ssize(row));
  }
  if (layer_.ratio == 0) return;
  const int32_t n_compressed = (pages == Pages::kWithBatch ? past + stretch.n_rows : past) / layer_.ratio;
  for (const CompressorKv* compressor : {&layer_.attention, &layer_.indexer}) {
    if (compressor->ratio == 0) continue;
    write_rings(stretch, *compressor);
    write_compressed(stretch, *compressor, n_compressed);
  }
}

void KvFixture::write_rings(const Stretch& stretch, const CompressorKv& compressor) {
  const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
  for (int32_t p = std::max(0, stretch.first_position - compressor.ring_rows); p < stretch.first_position; ++p) {
    for (const uint64_t offset : {compressor.kv_ring_bytes_offset, compressor.score_ring_bytes_offset}) {
      const auto values = make_values({.scale = kRowScale}, width, b_.seed("ring") + offset + p + 1000 * stretch.slot);
      const int64_t row_size = width * 4;
      std::memcpy(frontier(stretch.slot) + offset + p % compressor.ring_rows * row_size, values.data(),
                  static_cast<size_t>(row_size));
    }
  }
}

void KvFixture::write_compressed(const Stretch& stretch, const CompressorKv& compressor, int32_t n_compressed) {
  for (int32_t row = 0; row < n_compressed; ++row) {
    const uint64_t seed = b_.seed("pages") + compressor.page_bytes_offset + row + 1000 * stretch.slot;
    std::ranges::copy(packed_row(compressor.format, {.scale = kRowScale}, seed),
                      compressed_row(compressor, stretch.slot, row));
  }
}

void KvFixture::repeat_index_rows(const KvCase& c, int32_t period) {
  for (const Stretch& stretch : c.stretches) {
    for (int32_t row = 0; row < (stretch.first_position + stretch.n_rows) / c.ratio; ++row) {
      std::ranges::copy(packed_row(layer_.indexer.format, {Fill::Kind::kIntegers, 2.0f}, b_.seed("tie") + row % period),
                        compressed_row(layer_.indexer, stretch.slot, row));
    }
  }
  auto& array = *std::ranges::find(b_.data().arrays, "pages", &OpArray::name);
  array.bytes = pages_;
}

void KvFixture::add_arrays(const KvCase& c) {
  std::vector<int32_t> positions;
  for (const Stretch& s : c.stretches) {
    b_.data().spans.push_back({s.slot, static_cast<int32_t>(positions.size()), s.n_rows, s.first_position});
    for (int32_t i = 0; i < s.n_rows; ++i) positions.push_back(s.first_position + i);
  }
  b_.row_ints("positions", 0, positions);
  b_.bytes("frontiers", ArrayUse::kInput, {n_slots_, static_cast<int64_t>(frontier_bytes_)}).bytes = frontiers_;
  b_.bytes("pages", ArrayUse::kInput, {n_pages_, static_cast<int64_t>(page_bytes_)}).bytes = pages_;
  b_.add({.name = "page_table", .type = DType::kI32, .shape = {n_slots_, max_pages_}, .bytes = bytes_of(page_table_)});
}

OpArray& find_array(CaseBuilder& b, std::string_view name) {
  return *std::ranges::find(b.data().arrays, name, &OpArray::name);
}

// This batch's own raw rows.
void add_window_rows(CaseBuilder& b, const KvRowFormat& format) {
  const int32_t n_rows = b.data().n_rows;
  OpArray& array = b.bytes("window_rows", ArrayUse::kInput, {n_rows, format.row_bytes});
  array.per_row = true;
  for (int32_t r = 0; r < n_rows; ++r) {
    const auto row = KvFixture::packed_row(format, {.scale = kRowScale}, b.seed("window_rows") + r);
    std::ranges::copy(row, array.bytes.begin() + r * std::ssize(row));
  }
}

// Tolerance of window_append: none.
void add_window_append_case(std::vector<OpCase>& cases, const KvCase& c) {
  add_case(cases, "window_append", c.variant, count_rows(c), [=](CaseBuilder& b) -> RunOp {
    const KvFixture fixture(b, c, Pages::kBeforeBatch);
    add_window_rows(b, fixture.layer().window_format);
    find_array(b, "frontiers").use = ArrayUse::kInOut;
    return [layer = fixture.layer()](Ops& ops, const OpViews& v) {
      ops.window_append(v["window_rows"], layer, v.batch(), v.kv());
    };
  });
}

// Values of a stored row that may differ, and by how much. Before rounding values are off by a few units of the row's
// largest value per candidate; that moves a code to its neighbour only when it lies on the edge between both.
std::string compare_compressed_row(const CompressorKv& compressor, const std::byte* expected, const std::byte* actual) {
  const KvRowFormat& format = compressor.format;
  std::vector<float> want(static_cast<size_t>(format.width));
  std::vector<float> got(want.size());
  unpack_kv_row(expected, format, want.data());
  unpack_kv_row(actual, format, got.data());
  if (!std::ranges::all_of(want, [](float value) { return std::isfinite(value); }))
    return "the expected row is not finite: something was read that nobody wrote";
  double largest = 0.0;
  for (const float value : want) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  const double error = (2.0 * compressor.ratio + 64.0) * kUnit * largest;
  int32_t n_differing = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    const double size = std::max(std::fabs(static_cast<double>(want[i])), std::fabs(static_cast<double>(got[i])));
    double step = 0.0;
    if (format.encoding == KvEncoding::kFp8) step = std::max(size / 8, largest * 0x1p-16);
    if (format.encoding == KvEncoding::kFp4) step = std::max(size / 3, largest / 6);
    const double difference = std::fabs(static_cast<double>(got[i]) - static_cast<double>(want[i]));
    if (!(difference <= error + step)) return fmt::format("value {}: {:.9g} instead of {:.9g}", i, got[i], want[i]);
    if (difference > error) ++n_differing;
  }
  if (n_differing > 1 + format.width / 64) return fmt::format("{} values have another code", n_differing);
  return {};
}

// Tolerance of compress: rings bitwise (one F32 addition); rows as compare_compressed_row says, at most one code in 64
// differing by a step; every byte outside the rows of this compressor bitwise.
Comparison compare_pages(const CompressorKv& compressor) {
  return
      [=](const OpData& data, std::span<const std::byte> expected, std::span<const std::byte> actual) -> std::string {
        const OpArray& pages = data.array("pages");
        std::vector<std::byte> rest(actual.begin(), actual.end());
        const int32_t n_rows = kPageTokens / compressor.ratio;
        for (int64_t i = 0; i < pages.shape[0] * n_rows; ++i) {
          const size_t offset = static_cast<size_t>(i / n_rows * pages.shape[1]) + compressor.page_bytes_offset +
                                static_cast<size_t>(i % n_rows * compressor.format.row_bytes);
          const auto want = expected.subspan(offset, static_cast<size_t>(compressor.format.row_bytes));
          const bool is_written = !std::ranges::equal(want, std::span(pages.bytes).subspan(offset, want.size()));
          if (!is_written) continue;  // and must stay so
          const std::string difference = compare_compressed_row(compressor, want.data(), actual.data() + offset);
          if (!difference.empty()) return fmt::format("page {} row {}: {}", i / n_rows, i % n_rows, difference);
          std::ranges::copy(want, rest.begin() + static_cast<std::ptrdiff_t>(offset));
        }
        return compare_bytes(pages, expected, rest);
      };
}

void add_compress_case(std::vector<OpCase>& cases, const KvCase& c, bool is_indexer) {
  const std::string variant = fmt::format("{}_{}{}", c.variant, is_indexer ? "indexer" : "ratio", c.ratio);
  add_case(cases, "compress", variant, count_rows(c), [=](CaseBuilder& b) -> RunOp {
    const KvFixture fixture(b, c, Pages::kBeforeBatch);
    const CompressorKv compressor = is_indexer ? fixture.layer().indexer : fixture.layer().attention;
    const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
    find_array(b, "frontiers").use = ArrayUse::kInOut;
    find_array(b, "pages").use = ArrayUse::kInOut;
    find_array(b, "pages").compare = compare_pages(compressor);
    b.row_values("kv", {width}, {.scale = kRowScale});
    b.row_values("score", {width}, {.scale = 4.0f});
    b.values("ape", {c.ratio, width});
    b.values("norm", {compressor.format.width}, {.scale = 2.0f});
    b.values("frequencies", {c.n_rot / 2});
    return [=](Ops& ops, const OpViews& v) {
      ops.compress({v["kv"], v["score"], v["ape"], v["norm"], 1e-6f, {v["frequencies"]}, compressor}, v.batch(),
                   v.kv());
    };
  });
}

struct SelectCase {
  KvCase kv;
  int32_t top_k;
  int32_t n_heads = 3;
  Fill query = {};
  int32_t period = 0;  // of equal keys; 0: all differ
};

// Tolerance of index_select: none. Scores of the table are exactly equal or much farther apart than rounding moves
// them. Entries of `selected` beyond n_selected are free.
Comparison compare_selected() {
  return [](const OpData& data, std::span<const std::byte> expected, std::span<const std::byte> actual) {
    std::vector<std::byte> rest(actual.begin(), actual.end());
    for (size_t i = 0; i < expected.size(); i += sizeof(int32_t)) {
      int32_t want = 0;
      std::memcpy(&want, expected.data() + i, sizeof(want));
      if (want == -1) std::memcpy(rest.data() + i, &want, sizeof(want));
    }
    return compare_bytes(data.array("selected"), expected, rest);
  };
}

void add_select_case(std::vector<OpCase>& cases, const SelectCase& c) {
  const std::string variant = fmt::format("{}_top{}", c.kv.variant, c.top_k);
  add_case(cases, "index_select", variant, count_rows(c.kv), [=](CaseBuilder& b) -> RunOp {
    KvFixture fixture(b, c.kv, Pages::kWithBatch);
    const CompressorKv indexer = fixture.layer().indexer;
    if (c.period > 0) fixture.repeat_index_rows(c.kv, c.period);
    b.row_values("query", {c.n_heads, indexer.format.width}, c.query);
    b.row_values("weights", {c.n_heads});
    b.output("selected", {c.top_k}, compare_selected()).type = DType::kI32;
    b.output("n_selected", {}).type = DType::kI32;
    return [=](Ops& ops, const OpViews& v) {
      ops.index_select({v["query"], v["weights"], indexer, c.top_k}, v.batch(), v.kv(), v["selected"], v["n_selected"]);
    };
  });
}

struct AttentionCase {
  KvCase kv;
  int32_t n_heads = 2;
  int32_t top_k = 0;  // 0: all visible compressed rows
  Fill query = {};
  float sink = 1.0f;  // uniform in +-this, or at this when it is large
};

// Every row gets its own ascending choice among the rows it sees; entries beyond n_selected are garbage.
void add_selection(CaseBuilder& b, const AttentionCase& c) {
  const std::vector<SequenceSpan> spans = b.data().spans;
  std::vector<int32_t> selected;
  std::vector<int32_t> n_selected;
  for (const SequenceSpan& span : spans) {
    for (int32_t p = span.first_position; p < span.first_position + span.n_rows; ++p) {
      std::vector<int32_t> rows;
      const int32_t n_visible = (p + 1) / c.kv.ratio;
      for (int32_t row = 0; row < n_visible; ++row) {
        const int32_t n_left = n_visible - row;
        const int32_t n_wanted = std::min(c.top_k, n_visible) - static_cast<int32_t>(rows.size());
        if (n_wanted > 0 && pick(b.seed("selected") + p, row, n_left) < n_wanted) rows.push_back(row);
      }
      n_selected.push_back(static_cast<int32_t>(rows.size()));
      rows.resize(static_cast<size_t>(c.top_k), 0x7FFFFFFF);
      selected.insert(selected.end(), rows.begin(), rows.end());
    }
  }
  b.row_ints("selected", c.top_k, selected);
  b.row_ints("n_selected", 0, n_selected);
}

// Tolerance of attention: a logit is off by the dot product's bound, a weight by twice that relative to their sum, and
// the weighted sum by a unit for every eighth row; all on values no larger than the rows' largest.
double attention_bound(const OpData& data, const AttentionCase& c, int64_t row, int64_t head) {
  const int64_t width = c.kv.width;
  const float* query = data.f32("query") + (row * c.n_heads + head) * width;
  double sum = 0.0;
  for (int64_t d = 0; d < width; ++d) sum += std::fabs(static_cast<double>(query[d])) * kLargestValue;
  const double logit = (static_cast<double>(width) / 8 + 8) * kUnit * sum / std::sqrt(static_cast<double>(width));
  const int32_t position = data.i32("positions")[row];
  const int32_t n_rows = c.kv.window + (c.kv.ratio == 0 ? 0 : (position + 1) / c.kv.ratio);
  return (2 * logit + (n_rows / 8.0 + 8) * kUnit) * kLargestValue;
}

// The step: window rows into their rings bitwise, and results that turn by an angle, so twice the bound.
void add_attention_case(std::vector<OpCase>& cases, const AttentionCase& c, bool is_step = false) {
  const std::string variant = fmt::format("{}_ratio{}_h{}", c.kv.variant, c.kv.ratio, c.n_heads);
  add_case(cases, is_step ? "attend" : "attention", variant, count_rows(c.kv), [=](CaseBuilder& b) -> RunOp {
    const KvFixture fixture(b, c.kv, Pages::kWithBatch);
    b.data().splits_by_span = true;
    add_window_rows(b, fixture.layer().window_format);
    b.row_values("query", {c.n_heads, c.kv.width}, c.query);
    const Fill::Kind kind = std::fabs(c.sink) > 10.0f ? Fill::Kind::kConstant : Fill::Kind::kUniform;
    b.values("sinks", {c.n_heads}, {kind, c.sink});
    if (c.top_k > 0) add_selection(b, c);
    std::vector<double> bounds;
    for (int64_t row = 0; row < b.data().n_rows; ++row) {
      for (int64_t head = 0; head < c.n_heads; ++head) bounds.push_back(attention_bound(b.data(), c, row, head));
    }
    b.output("out", {c.n_heads, c.kv.width}, within([=, width = c.kv.width](const OpData&, int64_t i) {
               return (is_step ? 2 : 1) * bounds[static_cast<size_t>(i / width)];
             }));
    const auto args = [layer = fixture.layer(), selective = c.top_k > 0](const OpViews& v) {
      AttentionArgs made{v["query"], v["window_rows"], v["sinks"], layer, {}, {}};
      if (selective) made.selected = v["selected"];
      if (selective) made.n_selected = v["n_selected"];
      return made;
    };
    if (!is_step) return [=](Ops& ops, const OpViews& v) { ops.attention(args(v), v.batch(), v.kv(), v["out"]); };
    find_array(b, "frontiers").use = ArrayUse::kInOut;
    b.values("frequencies", {c.kv.n_rot / 2});
    const auto rope = [](const OpViews& v) { return RopeTable{v["frequencies"]}; };
    b.data().run_composed = [=](Ops& ops, const OpViews& v) {
      ops.Ops::attend(args(v), rope(v), v.batch(), v.kv(), v["out"]);
    };
    return [=](Ops& ops, const OpViews& v) { ops.attend(args(v), rope(v), v.batch(), v.kv(), v["out"]); };
  });
}

std::string at(int32_t first_position) { return fmt::format("at_{}", first_position); }

std::vector<Stretch> three_sequences() { return {{3, 0, 5}, {0, 255, 3}, {1, 126, 9}}; }

void add_window_cases(std::vector<OpCase>& cases) {
  add_window_append_case(cases, {.variant = "empty"});
  for (const int32_t first : {0, 7, 8, 9}) {
    for (const int32_t n_rows : {1, 8, 33})
      add_window_append_case(cases, {.variant = at(first), .stretches = {{1, first, n_rows}}});
  }
  for (const int32_t first : {126, 127, 128, 129})
    add_window_append_case(cases, {.variant = at(first), .window = 128, .stretches = {{0, first, 2}}});
  add_window_append_case(cases, {.variant = "three_sequences", .window = 7, .stretches = three_sequences()});
}

void add_compress_cases(std::vector<OpCase>& cases) {
  constexpr std::pair<int32_t, int32_t> kRatio4[] = {{0, 1}, {0, 3}, {0, 4},  {0, 9},   {3, 1},   {3, 2},
                                                     {4, 4}, {5, 8}, {7, 33}, {250, 8}, {255, 2}, {511, 7}};
  for (const bool is_indexer : {false, true}) {
    add_compress_case(cases, {.variant = "empty", .ratio = 4}, is_indexer);
    for (const auto& [first, n_rows] : kRatio4)
      add_compress_case(cases, {.variant = at(first), .ratio = 4, .stretches = {{1, first, n_rows}}}, is_indexer);
    add_compress_case(cases, {.variant = "three_sequences", .ratio = 4, .stretches = three_sequences()}, is_indexer);
    add_compress_case(cases, {.variant = "wide", .ratio = 4, .width = 64, .n_rot = 64, .stretches = {{0, 2, 7}}},
                      is_indexer);
  }
  constexpr std::pair<int32_t, int32_t> kRatio128[] = {{0, 1},   {0, 127}, {0, 128}, {0, 129},  {126, 1},
                                                       {127, 1}, {126, 3}, {128, 1}, {100, 33}, {255, 2}};
  for (const auto& [first, n_rows] : kRatio128)
    add_compress_case(cases, {.variant = at(first), .ratio = 128, .stretches = {{1, first, n_rows}}}, false);
  add_compress_case(cases, {.variant = "three_sequences", .ratio = 128, .stretches = three_sequences()}, false);
  add_compress_case(
      cases, {.variant = "short_group", .ratio = 128, .width = 96, .n_rot = 16, .stretches = {{0, 120, 9}}}, false);
}

void add_select_cases(std::vector<OpCase>& cases) {
  add_select_case(cases, {{.variant = "empty", .ratio = 4}, 8});
  // Row 8 closes at position 35: from then on a choice among more than 8 is made.
  for (const int32_t first : {0, 2, 30, 31, 34, 35}) {
    add_select_case(cases, {{.variant = at(first), .ratio = 4, .stretches = {{1, first, 3}}}, 8});
  }
  add_select_case(cases, {{.variant = "first_33", .ratio = 4, .stretches = {{0, 0, 33}}}, 3});
  add_select_case(cases, {{.variant = "many", .ratio = 4, .stretches = {{0, 2050, 2}}}, 512});
  add_select_case(cases, {{.variant = "three_sequences", .ratio = 4, .stretches = three_sequences()}, 5});
  add_select_case(cases, {{.variant = "best_only", .ratio = 4, .stretches = {{2, 100, 7}}}, 1});
  const KvCase ties{.variant = "ties", .ratio = 4, .stretches = {{0, 255, 8}, {2, 90, 1}}};
  add_select_case(cases, {ties, 7, 2, {Fill::Kind::kIntegers, 2.0f}, 5});
  KvCase equal = ties;
  equal.variant = "all_equal";
  add_select_case(cases, {equal, 9, 2, {Fill::Kind::kIntegers, 2.0f}, 1});
  equal.variant = "zero_query";
  add_select_case(cases, {equal, 9, 2, {Fill::Kind::kZero}, 3});
  // Queries of small integers are what index_round leaves; keys end inside a vector, a page and a thread's share.
  constexpr Fill kRounded{Fill::Kind::kIntegers, 2.0f};
  add_select_case(cases,
                  {{.variant = "flash", .ratio = 4, .width = 64, .stretches = {{1, 2610, 9}}}, 512, 64, kRounded});
  for (const int32_t n_heads : {1, 5, 7})
    add_select_case(
        cases,
        {{.variant = fmt::format("h{}", n_heads), .ratio = 4, .width = 64, .stretches = {{0, 300, 2}, {1, 290, 33}}},
         33,
         n_heads,
         kRounded});
}

void add_attention_cases(std::vector<OpCase>& cases) {
  for (const int32_t ratio : {0, 4, 128}) {
    add_attention_case(cases, {{.variant = "empty", .ratio = ratio}});
    for (const int32_t first : {0, 1, 3, 6, 7, 8, 9, 127, 128, 255, 256})
      add_attention_case(cases, {{.variant = at(first), .ratio = ratio, .stretches = {{1, first, 3}}}});
    add_attention_case(cases, {{.variant = "whole_prompt", .ratio = ratio, .stretches = {{0, 0, 33}}}, 1});
    add_attention_case(cases, {{.variant = "three_sequences", .ratio = ratio, .stretches = three_sequences()}, 3});
    add_attention_case(cases,
                       {{.variant = "decode", .ratio = ratio, .stretches = {{2, 9, 1}, {0, 300, 1}, {1, 0, 1}}}, 5});
    add_attention_case(
        cases, {{.variant = "short_group", .ratio = ratio, .width = 96, .n_rot = 16, .stretches = {{0, 130, 2}}}});
    add_attention_case(cases,
                       {{.variant = "peaked", .ratio = ratio, .stretches = {{0, 260, 2}}}, 2, 0, {.scale = 60.0f}});
    add_attention_case(
        cases, {{.variant = "zero_query", .ratio = ratio, .stretches = {{0, 130, 2}}}, 2, 0, {Fill::Kind::kZero}});
    add_attention_case(cases, {{.variant = "high_sink", .ratio = ratio, .stretches = {{0, 130, 2}}}, 2, 0, {}, 60.0f});
    add_attention_case(cases, {{.variant = "no_sink", .ratio = ratio, .stretches = {{0, 130, 2}}}, 2, 0, {}, -1e30f});
  }
  // Rows of a prompt that may share their logits: while the window fills, when it is full, with rows of their own.
  for (const int32_t n_heads : {1, 3, 4, 5}) {
    for (const int32_t first : {118, 260}) {
      const std::vector<Stretch> stretches = {{0, first, 19}, {1, 3, 9}};
      for (const int32_t ratio : {0, 4, 128}) {
        add_attention_case(
            cases,
            {{.variant = fmt::format("neighbours_at_{}", first), .ratio = ratio, .window = 128, .stretches = stretches},
             n_heads});
      }
      add_attention_case(cases, {{.variant = fmt::format("neighbours_selected_at_{}", first),
                                  .ratio = 4,
                                  .window = 128,
                                  .stretches = stretches},
                                 n_heads,
                                 21});
    }
  }
  for (const int32_t first : {126, 127, 128, 129})
    add_attention_case(
        cases, {{.variant = fmt::format("window_128_at_{}", first), .window = 128, .stretches = {{0, first, 2}}}});
  for (const int32_t n_rows : kRowCounts) {
    std::vector<Stretch> stretches;
    if (n_rows > 0) stretches.push_back({1, 250, n_rows});
    add_attention_case(cases, {{.variant = "selected", .ratio = 4, .stretches = stretches}, 2, 9});
  }
  add_attention_case(cases, {{.variant = "none_to_select", .ratio = 4, .stretches = {{0, 0, 7}}}, 2, 4});
  add_attention_case(cases, {{.variant = "selected_of_three", .ratio = 4, .stretches = three_sequences()}, 3, 6});
}

// Heads and channels of Flash: several ranges of rows, whose last is not full, and heads that fill no panel.
void add_wide_attention_cases(std::vector<OpCase>& cases) {
  const auto wide = [](std::string_view variant, int32_t ratio, std::vector<Stretch> stretches) {
    return KvCase{variant, ratio, 128, 512, 64, std::move(stretches)};
  };
  const auto add = [&](const AttentionCase& c) {
    add_attention_case(cases, c);
    add_attention_case(cases, c, /*is_step=*/true);
  };
  for (const int32_t n_heads : {1, 3, 4, 5, 64}) {
    add({wide("wide_selected", 4, {{0, 777, 1}}), n_heads, 70});
    add({wide("wide", 128, {{0, 383, 2}}), n_heads});
  }
  add({wide("wide_prompt", 0, {{0, 0, 65}}), 3});
  add({wide("wide_chunk", 128, {{1, 250, 33}}), 5});
  add({wide("wide_chunk_selected", 4, {{1, 510, 33}}), 5, 67});
  add({wide("wide_decode", 4, {{2, 63, 1}, {0, 64, 1}, {1, 600, 1}}), 17, 129});
  // Of a backend that takes long spans otherwise: the window fills inside, and with rows of another sequence around.
  add_attention_case(cases, {wide("wide_long", 4, {{1, 90, 130}, {0, 300, 2}}), 3, 40}, true);
  add_attention_case(cases, {wide("wide_long", 128, {{0, 5, 1}, {1, 500, 70}}), 17}, true);
}

}  // namespace

void add_kv_cases(std::vector<OpCase>& cases) {
  add_window_cases(cases);
  add_compress_cases(cases);
  add_select_cases(cases);
  add_attention_cases(cases);
  add_wide_attention_cases(cases);
}

}  // namespace ds4
