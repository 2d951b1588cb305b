#include "gguf/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"
#include "gguf/dequantize.h"
#include "gguf/gguf_bytes.h"

namespace ds4 {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ8_0 = 8;
constexpr uint32_t kQ2_K = 10;
constexpr uint32_t kQ6_K = 14;

Result<std::unique_ptr<GgufFile>> parse(std::span<const std::byte> bytes) {
  return GgufFile::from_bytes(bytes, "m.gguf");
}

std::string error_of(const GgufBytes& file) {
  const auto parsed = parse(file.bytes());
  return parsed.ok() ? "accepted" : parsed.error().message;
}

// Every kind of value and three tensors.
GgufBytes sample() {
  GgufBytes file(3, 5);
  file.pair("general.architecture", GgufType::kString).string("deepseek4");
  file.u32_pair("deepseek4.block_count", 43);
  file.pair("nested", GgufType::kArray).number(9u).number(uint64_t{2});
  file.number(0u).number(uint64_t{3}).number(uint8_t{1}).number(uint8_t{2}).number(uint8_t{3});
  file.number(8u).number(uint64_t{2}).string("a").string("");
  file.pair("flag", GgufType::kBool).number(uint8_t{1});
  file.pair("words", GgufType::kArray).number(8u).number(uint64_t{2}).string("one").string("two");
  file.tensor("a.weight", {4, 3}, kF32, 0);
  file.tensor("b.weight", {32, 2, 2}, kQ8_0, 64);
  file.tensor("c.weight", {256}, kQ6_K, 224);
  return file.data(448);
}

TEST(GgufReaderTest, ReadsDirectoryAndMetadata) {
  const GgufBytes file = sample();
  const auto gguf = parse(file.bytes()).take_value();
  EXPECT_EQ(gguf->path(), "m.gguf");
  EXPECT_EQ(gguf->file_size_bytes(), file.bytes().size());
  EXPECT_EQ(gguf->metadata().get_string("general.architecture").value(), "deepseek4");
  EXPECT_EQ(gguf->metadata().get_int("deepseek4.block_count").value(), 43);
  EXPECT_TRUE(gguf->metadata().get_bool("flag").value());
  EXPECT_THAT(gguf->metadata().get_string_array("words").value(), ElementsAre("one", "two"));
  EXPECT_EQ(gguf->metadata().find("nested")->to_text(8), "[... (2 array)]");

  ASSERT_EQ(gguf->tensors().size(), 3u);
  const TensorInfo* b = gguf->find("b.weight");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, DType::kQ8_0);
  EXPECT_EQ(b->shape, Shape({2, 2, 32}));
  EXPECT_EQ(b->size_bytes, 4u * 34);
  EXPECT_EQ(gguf->find("d.weight"), nullptr);
  const TensorView view = gguf->view(*b);
  EXPECT_EQ(view.data<uint8_t>()[0], 64);
  EXPECT_EQ(view.offset_bytes % 32, 0u);
}

TEST(GgufReaderTest, UnknownTensorTypesAreListedWithoutSize) {
  const GgufBytes file = sample();
  const auto gguf = parse(file.bytes()).take_value();
  const TensorInfo* c = gguf->find("c.weight");
  EXPECT_FALSE(c->type.has_value());
  EXPECT_EQ(c->size_bytes, 0u);
  EXPECT_EQ(ggml_type_name(c->ggml_type), "Q6_K");
  EXPECT_EQ(ggml_type_name(99), "type 99");
}

TEST(GgufReaderTest, HonoursTheAlignmentKey) {
  GgufBytes file(1, 1);
  file.u32_pair("general.alignment", 256).tensor("a", {4}, kF32, 256).data(272, 256);
  const auto gguf = parse(file.bytes()).take_value();
  EXPECT_EQ(gguf->tensors()[0].offset_bytes, 512u);
}

TEST(GgufReaderTest, AFileWithoutAnythingIsFine) {
  const GgufBytes file(0, 0);
  EXPECT_TRUE(parse(file.bytes()).ok());
}

TEST(GgufReaderTest, OtherFilesAndVersionsAreNamed) {
  EXPECT_EQ(error_of(GgufBytes(0, 0, 2)), "m.gguf: GGUF version 2; only version 3 is accepted");
  EXPECT_THAT(error_of(GgufBytes(0, 0, 0x03000000)), HasSubstr("big-endian"));
  const std::string text = "{\"json\": true, \"and\": \"more\"}";
  EXPECT_THAT(parse(std::as_bytes(std::span(text))).error().message, HasSubstr("not a GGUF file"));
  EXPECT_THAT(parse({}).error().message, HasSubstr("truncated at byte 0: magic needs 4 bytes, 0 left"));
}

TEST(GgufReaderTest, AbsurdCountsAreRefusedBeforeMemoryIsTaken) {
  EXPECT_THAT(error_of(GgufBytes(0, UINT64_MAX)), HasSubstr("18446744073709551615 metadata pairs, at most 65536"));
  EXPECT_THAT(error_of(GgufBytes(0, 60000)), HasSubstr("60000 metadata pairs of at least 13 bytes do not fit"));
  EXPECT_THAT(error_of(GgufBytes(UINT64_MAX, 0)), HasSubstr("tensors, at most 131072"));
  EXPECT_THAT(error_of(GgufBytes(100000, 0)), HasSubstr("100000 tensors of at least 32 bytes do not fit"));
  for (const uint32_t element : {0u, 4u, 8u, 9u, 12u}) {
    GgufBytes file(0, 1);
    file.pair("k", GgufType::kArray).number(element).number(uint64_t{1} << 60);
    EXPECT_THAT(error_of(file), AllOf(HasSubstr("key 'k'"), HasSubstr("array elements of at least"))) << element;
  }
  GgufBytes long_key(0, 1);
  long_key.number(uint64_t{1} << 40).number(uint64_t{0});
  EXPECT_THAT(error_of(long_key), HasSubstr("a key of 1099511627776 bytes, at most 65536"));
}

TEST(GgufReaderTest, ADirectoryBeyondItsLimitIsNotFollowed) {
  GgufBytes file(0, 1);
  file.pair("text", GgufType::kString).string(std::string(size_t{65} << 20, 'x'));
  EXPECT_THAT(error_of(file), HasSubstr("key 'text': directory (limited to 64 MiB): truncated at byte"));
}

TEST(GgufReaderTest, ValueTypesAndNestingAreBounded) {
  GgufBytes unknown(0, 1);
  unknown.string("k").number(13u).number(0u);
  EXPECT_EQ(error_of(unknown), "m.gguf: metadata pair 1 of 1: key 'k': value type 13 is not known (0 to 12 are)");
  for (const int depth : {8, 9}) {
    GgufBytes nested(0, 1);
    nested.string("k").number(9u);
    for (int i = 1; i < depth; ++i) nested.number(9u).number(uint64_t{1});
    nested.number(0u).number(uint64_t{0});
    EXPECT_THAT(error_of(nested), HasSubstr(depth == 8 ? "accepted" : "nested deeper than 8"));
  }
}

TEST(GgufReaderTest, EveryProblemOfTheDirectoryIsInOneMessage) {
  GgufBytes file(9, 5);
  file.u32_pair("twice", 1).u32_pair("twice", 2).u32_pair("", 3);
  file.pair("flag", GgufType::kBool).number(uint8_t{7});
  file.u32_pair("general.alignment", 33);
  file.tensor("same", {4}, kF32, 0).tensor("same", {4}, kF32, 32);
  file.tensor("crooked", {4}, kF32, 84);
  file.tensor("zero", {4, 0}, kF32, 96);
  file.tensor("broken", {100}, kQ2_K, 96);
  file.tensor("far", {4}, kF32, 1 << 20);
  file.tensor("huge", {uint64_t{1} << 40, uint64_t{1} << 40}, kF32, 96);
  file.tensor("five", {1, 1, 1, 1, 1}, kF32, 96);
  file.tensor("over", {16}, kF32, 96).data(160);
  const std::string message = error_of(file);
  EXPECT_THAT(message, HasSubstr("m.gguf: 12 problems\n"));
  EXPECT_THAT(message, HasSubstr("metadata key 'twice' occurs twice"));
  EXPECT_THAT(message, HasSubstr("an empty key"));
  EXPECT_THAT(message, HasSubstr("metadata key 'flag' is a bool of value 7"));
  EXPECT_THAT(message, HasSubstr("'general.alignment' is 33"));
  EXPECT_THAT(message, HasSubstr("tensor 'same' occurs 2 times"));
  EXPECT_THAT(message, HasSubstr("tensor 'crooked' has the offset 84, which is no multiple of the alignment 32"));
  EXPECT_THAT(message, HasSubstr("tensor 'zero' has the extents [4, 0]"));
  EXPECT_THAT(message, HasSubstr("tensor 'broken': a row of 100 elements is not whole Q2_K blocks of 256"));
  EXPECT_THAT(message, HasSubstr("tensor 'far' needs 16 bytes at"));
  EXPECT_THAT(message, HasSubstr("tensor 'huge' has the extents [1099511627776, 1099511627776]"));
  EXPECT_THAT(message, HasSubstr("tensor 'five' has 5 dimensions, expected 1 to 4"));
  EXPECT_THAT(message, HasSubstr("tensors 'crooked' and 'over' overlap"));
}

TEST(GgufReaderTest, OverlapIsFoundBehindALongTensor) {
  GgufBytes file(4, 0);
  file.tensor("long", {64}, kF32, 0).tensor("inside", {4}, kF32, 32).tensor("later", {4}, kF32, 224);
  file.tensor("after", {4}, kF32, 256).data(272);
  EXPECT_EQ(error_of(file),
            "m.gguf: 2 problems\n  tensors 'long' and 'inside' overlap\n  tensors 'long' and 'later' overlap");
}

TEST(GgufReaderTest, ProblemsBeforeATruncationAreKept) {
  GgufBytes file(0, 3);
  file.u32_pair("twice", 1).u32_pair("twice", 2).pair("text", GgufType::kString).number(uint64_t{1000});
  EXPECT_THAT(error_of(file), AllOf(HasSubstr("2 problems"), HasSubstr("'twice' occurs twice"),
                                    HasSubstr("metadata pair 3 of 3: key 'text': directory: truncated")));
}

TEST(GgufReaderTest, OffsetsThatWrapAroundAreOutsideTheFile) {
  GgufBytes file(1, 0);
  file.tensor("a", {4}, kF32, UINT64_MAX - 31).data(64);
  EXPECT_THAT(error_of(file), HasSubstr("tensor 'a' needs 16 bytes"));
}

TEST(GgufReaderTest, UnprintableNamesAreEscapedInMessages) {
  GgufBytes file(0, 2);
  file.u32_pair("\x1b[31m\xff", 1).u32_pair("\x1b[31m\xff", 1);
  EXPECT_THAT(error_of(file), HasSubstr("metadata key '\\x1b[31m\\xff' occurs twice"));
}

TEST(GgufReaderTest, TruncationAtEveryByteIsAnError) {
  const GgufBytes file = sample();
  const auto bytes = file.bytes();
  const auto gguf = parse(bytes).take_value();
  const TensorInfo& last_sized = *gguf->find("b.weight");
  const TensorInfo& unsized = *gguf->find("c.weight");
  for (size_t n = 0; n < bytes.size(); ++n) {
    const auto cut = parse(bytes.first(n));
    if (n < last_sized.offset_bytes + last_sized.size_bytes || n < unsized.offset_bytes) {
      ASSERT_FALSE(cut.ok()) << n;
      EXPECT_THAT(cut.error().message, AllOf(HasSubstr("m.gguf: "), ::testing::Not(HasSubstr("CHECK")))) << n;
    }
  }
}

void use_everything(const GgufFile& gguf) {
  std::vector<float> row;
  for (const TensorInfo& tensor : gguf.tensors()) {
    ASSERT_GE(tensor.shape.rank(), 1);
    if (!tensor.type) continue;
    const TensorView view = gguf.view(tensor);
    ASSERT_LE(view.offset_bytes + view.size_bytes(), gguf.file_size_bytes());
    if (!is_float_type(view.type)) continue;
    row.resize(static_cast<size_t>(tensor.shape.back()));
    dequantize_row(view.type, view.data<std::byte>(), row.data(), tensor.shape.back());
  }
  for (const MetadataEntry& entry : gguf.metadata().entries()) {
    EXPECT_FALSE(entry.value.to_text(4).empty());
    EXPECT_NE(gguf.metadata().find(entry.key), nullptr);
  }
}

TEST(GgufReaderTest, FlippedBytesGiveAnErrorOrAFileThatCanBeUsed) {
  const GgufBytes file = sample();
  const std::vector<std::byte> good(file.bytes().begin(), file.bytes().end());
  Xorshift64Star random(17);
  int n_errors = 0;
  for (int round = 0; round < 20000; ++round) {
    auto bytes = good;
    for (uint64_t flips = 1 + (random.next() >> 62); flips > 0; --flips) {
      bytes[(random.next() >> 32) % 448] = static_cast<std::byte>(random.next() >> 56);
    }
    const auto parsed = parse(bytes);
    if (parsed.ok())
      use_everything(*parsed.value());
    else
      ++n_errors;
  }
  EXPECT_GT(n_errors, 5000);
  EXPECT_LT(n_errors, 20000);
}

TEST(GgufReaderTest, LargeVocabulariesAreKeptCompactly) {
  constexpr size_t kWords = 130000;
  GgufBytes file(0, 1);
  file.pair("tokenizer.ggml.tokens", GgufType::kArray).number(8u).number(uint64_t{kWords});
  for (size_t i = 0; i < kWords; ++i) file.string("token " + std::to_string(i));
  const auto gguf = parse(file.bytes()).take_value();
  const auto words = gguf->metadata().get_string_array("tokenizer.ggml.tokens").value();
  ASSERT_EQ(words.size(), kWords);
  EXPECT_EQ(words[129999], "token 129999");
}

TEST(GgufReaderTest, MissingFilesAreNamed) {
  const auto missing = GgufFile::open("no/such/model.gguf");
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message, HasSubstr("no/such/model.gguf"));
}

}  // namespace
}  // namespace ds4
