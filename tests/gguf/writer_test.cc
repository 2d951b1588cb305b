#include "gguf/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>

#include "gguf/gguf_bytes.h"
#include "gguf/quantize.h"
#include "gguf/reader.h"

namespace ds4 {
namespace {

using ::testing::HasSubstr;

class GgufWriterTest : public ::testing::Test {
 protected:
  GgufWriterTest() {
    std::string pattern = ::testing::TempDir() + "ds4_writer_test_XXXXXX";
    directory_ = mkdtemp(pattern.data());
  }
  ~GgufWriterTest() override { std::filesystem::remove_all(directory_); }

  std::string path() const { return directory_ + "/m.gguf"; }
  bool nothing_there() const { return std::filesystem::is_empty(directory_); }

  std::string directory_;
};

std::vector<std::byte> counted_bytes(size_t n) {
  std::vector<std::byte> bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 7);
  return bytes;
}

TEST_F(GgufWriterTest, EveryByteIsWhereTheFormatWantsIt) {
  GgufWriter writer = GgufWriter::create(path()).take_value();
  writer.metadata().set_string("general.architecture", "x");
  writer.metadata().set_u32("n", 7);
  writer.metadata().set_string_array("s", std::vector<std::string>{"ab", ""});
  ASSERT_TRUE(writer.add_tensor("a", DType::kF32, {2, 3}).ok());
  ASSERT_TRUE(writer.add_tensor("b", DType::kQ8_0, {1, 32}).ok());
  std::vector<std::byte> a(24);
  std::vector<std::byte> b(34);
  for (size_t i = 0; i < 24; ++i) a[i] = static_cast<std::byte>(i);
  for (size_t i = 0; i < 34; ++i) b[i] = static_cast<std::byte>(32 + i);
  ASSERT_TRUE(writer.write_tensor_data(a).ok());
  ASSERT_TRUE(writer.write_tensor_data(b).ok());
  ASSERT_TRUE(writer.finish().ok());

  GgufBytes expected(2, 3);
  expected.pair("general.architecture", GgufType::kString).string("x");
  expected.u32_pair("n", 7);
  expected.pair("s", GgufType::kArray).number(8u).number(uint64_t{2}).string("ab").string("");
  expected.tensor("a", {3, 2}, 0, 0).tensor("b", {32, 1}, 8, 32).data(32 + 64);
  std::vector<std::byte> bytes(expected.bytes().begin(), expected.bytes().end());
  const size_t data = bytes.size() - 96;
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(data) + 24, bytes.begin() + static_cast<ptrdiff_t>(data) + 32,
            std::byte{0});
  std::fill(bytes.begin() + static_cast<ptrdiff_t>(data) + 66, bytes.end(), std::byte{0});
  const std::string written = read_file(path(), 10000).value();
  EXPECT_EQ(written, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

TEST_F(GgufWriterTest, WhatWasWrittenReadsBack) {
  constexpr std::array kTypes = {DType::kF32,  DType::kF16,     DType::kBF16,  DType::kQ8_0, DType::kQ2_K,
                                 DType::kQ4_K, DType::kIQ2_XXS, DType::kMXFP4, DType::kI32};
  GgufWriter writer = GgufWriter::create(path()).take_value();
  writer.metadata().set_i32_array("ratios", std::vector<int32_t>{0, 4, 128});
  for (const DType type : kTypes) ASSERT_TRUE(writer.add_tensor(dtype_name(type), type, {2, 3, 256}).ok());
  for (const DType type : kTypes) {
    const auto bytes = counted_bytes(tensor_bytes(type, {2, 3, 256}).value());
    // In pieces of odd sizes.
    for (size_t first = 0; first < bytes.size();) {
      const size_t n = std::min<size_t>(bytes.size() - first, 1 + first % 500);
      ASSERT_TRUE(writer.write_tensor_data(std::span(bytes).subspan(first, n)).ok());
      first += n;
    }
  }
  ASSERT_TRUE(writer.finish().ok());

  const auto gguf = GgufFile::open(path()).take_value();
  EXPECT_EQ(gguf->metadata().get_int_array("ratios").value(), (std::vector<int64_t>{0, 4, 128}));
  ASSERT_EQ(gguf->tensors().size(), kTypes.size());
  for (const DType type : kTypes) {
    const TensorInfo* tensor = gguf->find(dtype_name(type));
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->type, type);
    EXPECT_EQ(tensor->shape, Shape({2, 3, 256}));
    const TensorView view = gguf->view(*tensor);
    const auto bytes = counted_bytes(view.size_bytes());
    EXPECT_EQ(std::memcmp(view.data<std::byte>(), bytes.data(), bytes.size()), 0) << dtype_name(type);
  }
}

TEST_F(GgufWriterTest, MetadataOfAnotherFileIsCopiedByteForByte) {
  GgufBytes original(0, 3);
  original.pair("nested", GgufType::kArray).number(9u).number(uint64_t{1}).number(8u).number(uint64_t{1}).string("x");
  original.pair("small", GgufType::kI8).number(int8_t{-3});
  original.pair("double", GgufType::kF64).number(0.1);
  original.data(0);
  const auto source = GgufFile::from_bytes(original.bytes(), "source").take_value();
  GgufWriter writer = GgufWriter::create(path()).take_value();
  writer.metadata() = source->metadata();
  ASSERT_TRUE(writer.finish().ok());
  EXPECT_EQ(read_file(path(), 1000).value(),
            std::string(reinterpret_cast<const char*>(original.bytes().data()), original.bytes().size()));
}

TEST_F(GgufWriterTest, TheAlignmentKeyIsHonoured) {
  GgufWriter writer = GgufWriter::create(path()).take_value();
  writer.metadata().set_u32("general.alignment", 128);
  ASSERT_TRUE(writer.add_tensor("a", DType::kF32, {1}).ok());
  ASSERT_TRUE(writer.add_tensor("b", DType::kF32, {1}).ok());
  ASSERT_TRUE(writer.write_tensor_data(counted_bytes(4)).ok());
  ASSERT_TRUE(writer.write_tensor_data(counted_bytes(4)).ok());
  ASSERT_TRUE(writer.finish().ok());
  const auto gguf = GgufFile::open(path()).take_value();
  EXPECT_EQ(gguf->find("b")->offset_bytes, gguf->find("a")->offset_bytes + 128);
}

TEST_F(GgufWriterTest, TensorsThatAFileCannotHoldAreRefused) {
  GgufWriter writer = GgufWriter::create(path()).take_value();
  ASSERT_TRUE(writer.add_tensor("a", DType::kF32, {4}).ok());
  EXPECT_THAT(writer.add_tensor("a", DType::kF32, {4}).error().message, HasSubstr("'a' is added twice"));
  EXPECT_THAT(writer.add_tensor("b", DType::kU8, {4}).error().message, HasSubstr("GGUF has no type U8"));
  EXPECT_THAT(writer.add_tensor("c", DType::kQ4_K, {4, 100}).error().message, HasSubstr("tensor 'c': a row of 100"));
  EXPECT_THAT(writer.add_tensor("d", DType::kF32, {0, 4}).error().message, HasSubstr("of shape [0, 4] is empty"));
}

TEST_F(GgufWriterTest, WithoutFinishNothingRemains) {
  {
    GgufWriter writer = GgufWriter::create(path()).take_value();
    ASSERT_TRUE(writer.add_tensor("a", DType::kF32, {4}).ok());
    ASSERT_TRUE(writer.write_tensor_data(counted_bytes(16)).ok());
  }
  EXPECT_TRUE(nothing_there());
}

TEST_F(GgufWriterTest, MisuseAborts) {
  GgufWriter writer = GgufWriter::create(path()).take_value();
  ASSERT_TRUE(writer.add_tensor("a", DType::kF32, {4}).ok());
  EXPECT_DEATH(static_cast<void>(writer.write_tensor_data(counted_bytes(17))), "a: 17 bytes after 0 of 16");
  EXPECT_DEATH(static_cast<void>(writer.finish()), "finished at tensor 1 of 1");
  ASSERT_TRUE(writer.write_tensor_data(counted_bytes(16)).ok());
  EXPECT_DEATH(static_cast<void>(writer.metadata()), "the header is written already");
}

}  // namespace
}  // namespace ds4
