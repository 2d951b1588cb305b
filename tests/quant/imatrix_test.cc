#include "quant/imatrix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/bytes.h"
#include "base/file.h"
#include "gguf/writer.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Three tensors: dense, two groups, three experts of which one was never used.
Imatrix sample() {
  Imatrix imatrix;
  imatrix.entries = {{"blk.0.attn_kv.weight", {2, 4, 6}, {2}},
                     {"blk.0.attn_output_a.weight", {2, 4, 6, 20}, {2, 2}},
                     {"blk.0.ffn_down_exps.weight", {1, 2, 0, 0, 9, 12}, {1, 0, 3}}};
  imatrix.datasets = {"a.txt", "b.txt"};
  imatrix.n_chunks = 5;
  imatrix.chunk_tokens = 512;
  return imatrix;
}

void write_legacy_entry(ByteWriter& out, std::string_view name, int32_t n_calls, std::vector<float> values) {
  out.write(static_cast<int32_t>(name.size()));
  out.write_text(name);
  out.write(n_calls);
  out.write(static_cast<int32_t>(values.size()));
  for (const float value : values) out.write(value);
}

std::string error_of(std::span<const std::byte> bytes) {
  const Result<Imatrix> parsed = parse_imatrix(bytes, "input");
  return parsed.ok() ? "no error" : parsed.error().message;
}

TEST(ImatrixTest, ImportanceIsTheMeanOfEachSlice) {
  const Imatrix imatrix = sample();
  const ColumnImportance dense = imatrix.importance("blk.0.attn_kv.weight", {7, 3}).take_value();
  EXPECT_THAT(dense.of_row(0), ElementsAre(1, 2, 3));
  EXPECT_THAT(dense.of_row(6), ElementsAre(1, 2, 3));
  const ColumnImportance groups = imatrix.importance("blk.0.attn_output_a.weight", {6, 2}).take_value();
  EXPECT_THAT(groups.of_row(2), ElementsAre(1, 2));
  EXPECT_THAT(groups.of_row(3), ElementsAre(3, 10));
  const ColumnImportance experts = imatrix.importance("blk.0.ffn_down_exps.weight", {3, 4, 2}).take_value();
  EXPECT_THAT(experts.of_row(3), ElementsAre(1, 2));
  EXPECT_THAT(experts.of_row(4), ElementsAre(1, 1));  // never used
  EXPECT_THAT(experts.of_row(11), ElementsAre(3, 4));
  EXPECT_TRUE(imatrix.importance("unknown", {3, 3}).value().of_row(0).empty());
}

TEST(ImatrixTest, ImportanceRefusesShapesThatDoNotFit) {
  const Imatrix imatrix = sample();
  for (const Shape& shape : {Shape{7, 4}, Shape{7, 2}, Shape{}}) {
    const auto found = imatrix.importance("blk.0.attn_kv.weight", shape);
    ASSERT_FALSE(found.ok()) << shape.to_string();
    EXPECT_THAT(found.error().message, HasSubstr("attn_kv"));
  }
  EXPECT_FALSE(imatrix.importance("blk.0.ffn_down_exps.weight", {6, 4, 2}).ok());
  EXPECT_FALSE(imatrix.importance("blk.0.attn_output_a.weight", {5, 2}).ok());
}

TEST(ImatrixTest, GgufFormKeepsSumsAndCounts) {
  const ScratchFolder folder;
  ASSERT_TRUE(write_imatrix(sample(), folder.path("x.gguf")).ok());
  const Imatrix read = read_imatrix(folder.path("x.gguf")).take_value();
  ASSERT_EQ(read.entries.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read.entries[i].tensor, sample().entries[i].tensor);
    EXPECT_EQ(read.entries[i].sums, sample().entries[i].sums);
    EXPECT_EQ(read.entries[i].counts, sample().entries[i].counts);
  }
  EXPECT_EQ(read.datasets, sample().datasets);
  EXPECT_EQ(read.n_chunks, 5);
  EXPECT_EQ(read.chunk_tokens, 512);
}

TEST(ImatrixTest, LegacyFormHasTheOriginalBytes) {
  const ScratchFolder folder;
  ASSERT_TRUE(write_legacy_imatrix(sample(), folder.path("x.dat")).ok());
  ByteWriter expected;
  expected.write(int32_t{3});
  write_legacy_entry(expected, "blk.0.attn_kv.weight", 1, {1, 2, 3});
  write_legacy_entry(expected, "blk.0.attn_output_a.weight", 1, {2, 6});
  write_legacy_entry(expected, "blk.0.ffn_down_exps.weight", 1, {1, 2, 1, 1, 3, 4});
  expected.write(int32_t{5});
  expected.write(int32_t{12});
  expected.write_text("a.txt, b.txt");
  const std::string bytes = read_file(folder.path("x.dat"), 1 << 20).take_value();
  EXPECT_TRUE(std::ranges::equal(std::as_bytes(std::span(bytes)), expected.bytes()));

  const Imatrix read = read_imatrix(folder.path("x.dat")).take_value();
  EXPECT_THAT(read.datasets, ElementsAre("a.txt, b.txt"));
  EXPECT_EQ(read.n_chunks, 5);
  EXPECT_THAT(read.importance("blk.0.ffn_down_exps.weight", {3, 4, 2}).value().of_row(8), ElementsAre(3, 4));
  EXPECT_THAT(read.importance("blk.0.attn_output_a.weight", {6, 2}).value().of_row(3), ElementsAre(2, 6));
}

TEST(ImatrixTest, LegacyFormDividesByCallsAndMayEndAfterTheEntries) {
  ByteWriter out;
  out.write(int32_t{1});
  write_legacy_entry(out, "w", 4, {4, 8});
  const Imatrix read = parse_imatrix(out.bytes(), "input").take_value();
  EXPECT_THAT(read.importance("w", {5, 2}).value().of_row(4), ElementsAre(1, 2));
}

TEST(ImatrixTest, MergeAddsSumsCountsAndSources) {
  Imatrix merged = sample();
  Imatrix other = sample();
  other.entries.erase(other.entries.begin());
  other.entries.push_back({"output.weight", {3}, {1}});
  other.datasets = {"b.txt", "c.txt"};
  ASSERT_TRUE(merged.merge(other).ok());
  EXPECT_THAT(merged.find("blk.0.attn_kv.weight")->sums, ElementsAre(2, 4, 6));
  EXPECT_THAT(merged.find("blk.0.ffn_down_exps.weight")->sums, ElementsAre(2, 4, 0, 0, 18, 24));
  EXPECT_THAT(merged.find("blk.0.ffn_down_exps.weight")->counts, ElementsAre(2, 0, 6));
  EXPECT_THAT(merged.find("output.weight")->sums, ElementsAre(3));
  EXPECT_THAT(merged.datasets, ElementsAre("a.txt", "b.txt", "c.txt"));
  EXPECT_EQ(merged.n_chunks, 10);
}

TEST(ImatrixTest, MergeRefusesMeansAndOtherSizesAndChangesNothing) {
  Imatrix other = sample();
  other.entries[0].sums.pop_back();
  other.entries[1].counts = {4};
  Imatrix mine = sample();
  const Result<void> merged = mine.merge(other);
  ASSERT_FALSE(merged.ok());
  EXPECT_THAT(merged.error().message, HasSubstr("attn_kv"));
  EXPECT_THAT(merged.error().message, HasSubstr("attn_output_a"));
  EXPECT_EQ(mine.entries[2].sums, sample().entries[2].sums);
  Imatrix means = sample();
  means.entries[1].counts.clear();
  for (const auto& refused : {mine.merge(means), means.merge(mine)}) {
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr("means without counts"));
  }
}

TEST(ImatrixTest, EveryCutOfALegacyFileIsRefused) {
  ByteWriter out;
  out.write(int32_t{2});
  write_legacy_entry(out, "first", 1, {1, 2});
  write_legacy_entry(out, "second", 1, {3});
  const size_t end_of_entries = out.size();
  out.write(int32_t{7});
  out.write(int32_t{4});
  out.write_text("text");
  EXPECT_EQ(error_of(out.bytes()), "no error");
  for (size_t size = 0; size < out.size(); ++size) {
    if (size == end_of_entries) continue;
    EXPECT_THAT(error_of(out.bytes().first(size)), HasSubstr("input")) << size;
  }
}

TEST(ImatrixTest, WrongValuesAreNamed) {
  ByteWriter out;
  out.write(int32_t{2});
  write_legacy_entry(out, "first", 1, {1, -2});
  write_legacy_entry(out, "second", 1, {std::numeric_limits<float>::infinity()});
  EXPECT_THAT(error_of(out.bytes()), testing::AllOf(HasSubstr("'first': value 1"), HasSubstr("'second': value 0")));
}

TEST(ImatrixTest, GgufFilesThatAreNoImatrixOrContradictThemselvesAreRefused) {
  const ScratchFolder folder;
  const auto error_with = [&](std::string_view kind, DType type, int64_t n_slices, bool with_counts) {
    const std::string path = folder.path("bad.gguf");
    GgufWriter writer = GgufWriter::create(path).take_value();
    writer.metadata().set_string("general.type", kind);
    EXPECT_TRUE(writer.add_tensor("w.in_sum2", type, {6}).ok());
    if (with_counts) {
      EXPECT_TRUE(writer.add_tensor("w.counts", DType::kF32, {n_slices, 1}).ok());
    }
    const std::vector<std::byte> zeros(64);
    EXPECT_TRUE(writer.write_tensor_data(std::span(zeros).first(type == DType::kF32 ? 24 : 12)).ok());
    if (with_counts) {
      EXPECT_TRUE(writer.write_tensor_data(std::span(zeros).first(n_slices * sizeof(float))).ok());
    }
    EXPECT_TRUE(writer.finish().ok());
    const auto read = read_imatrix(path);
    return read.ok() ? "no error" : read.error().message;
  };
  EXPECT_EQ(error_with("imatrix", DType::kF32, 3, true), "no error");
  EXPECT_THAT(error_with("model", DType::kF32, 3, true), HasSubstr("general.type"));
  EXPECT_THAT(error_with("imatrix", DType::kF16, 3, true), HasSubstr("expected type F32"));
  EXPECT_THAT(error_with("imatrix", DType::kF32, 4, true), HasSubstr("6 values for 4 slices"));
  EXPECT_THAT(error_with("imatrix", DType::kF32, 3, false), HasSubstr("no counts"));
}

}  // namespace
}  // namespace ds4
