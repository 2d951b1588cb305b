#include "quant/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "quant/checkpoint_builder.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

std::string error_of(std::string_view header, size_t n_data_bytes = 0) {
  const std::vector<std::byte> data(n_data_bytes);
  const auto result = parse_safetensors(safetensors_bytes(header, data), "file");
  return result.ok() ? "" : result.error().message;
}

void expect_parts(const std::string& message, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in: " << message;
  }
}

TEST(SafetensorsTest, ReadsEveryType) {
  std::map<std::string, BuilderTensor> tensors;
  for (const char* type : {"F32", "F16", "BF16", "F8_E4M3", "F8_E8M0", "I8", "I64"}) {
    tensors[type] = make_tensor(type, {3, 5}, 7);
  }
  tensors["U8"] = {"U8", {2}, {std::byte{1}, std::byte{2}}};
  tensors["I32"] = {"I32", {}, std::vector<std::byte>(4)};
  const std::vector<std::byte> bytes = safetensors_bytes(tensors);
  const auto result = parse_safetensors(bytes, "file");
  ASSERT_TRUE(result.ok()) << result.error().message;
  ASSERT_EQ(result.value().size(), tensors.size());
  for (const SourceTensor& tensor : result.value()) {
    EXPECT_EQ(source_type_name(tensor.type), tensor.name);
    const BuilderTensor& built = tensors.at(tensor.name);
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, built.bytes)) << tensor.name;
    EXPECT_EQ(tensor.shape, Shape(std::span<const int64_t>(built.shape)));
  }
}

TEST(SafetensorsTest, AnEmptyFileOfNoTensorsIsFine) { EXPECT_EQ(error_of("{}"), ""); }

TEST(SafetensorsTest, HeaderLengthIsChecked) {
  const auto with_length = [](uint64_t length) {
    std::vector<std::byte> bytes = safetensors_bytes("{}", {});
    std::memcpy(bytes.data(), &length, sizeof(length));
    return parse_safetensors(bytes, "file").error().message;
  };
  for (const uint64_t length : {uint64_t{3}, uint64_t{1} << 32, UINT64_MAX}) {
    expect_parts(with_length(length), {"file", "header length", "at most 2", std::to_string(length)});
  }
  const std::vector<std::byte> stump(7);
  expect_parts(parse_safetensors(stump, "file").error().message, {"file", "header length"});
}

TEST(SafetensorsTest, ABrokenHeaderIsRefused) {
  expect_parts(error_of("{"), {"not valid JSON"});
  expect_parts(error_of("[]"), {"expected a JSON object", "array"});
  expect_parts(error_of("{\"a\": 3}"), {"'a'", "expected an object", "number"});
  expect_parts(error_of(std::string(100'000, '[')), {"not valid JSON"});
}

TEST(SafetensorsTest, EveryProblemOfEveryEntryIsReported) {
  const std::string message = error_of(
      R"({"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]},
          "b": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
          "c": {"dtype": "F32", "shape": [2], "data_offsets": [4, 16]},
          "d": {"dtype": "F32", "shape": [2], "data_offsets": [16, 8]},
          "e": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
          "e": {"shape": [1, 1, 1, 1, 1], "data_offsets": "all"},
          "f": {"dtype": "I64", "shape": [4611686018427387904, 4], "data_offsets": [0, 0]}})",
      16);
  expect_parts(message, {"'a': dtype", "F8_E4M3", "'F64'", "'b': shape", "'c': F32 [2] does not take the 12 bytes",
                         "'d': data_offsets", "16, 8", "key 'e' appears twice", "'e': dtype", "'e': shape",
                         "'e': data_offsets", "'f': I64 [4611686018427387904, 4]"});
}

TEST(SafetensorsTest, OutOfTheFileIsRefused) {
  expect_parts(error_of(R"({"a": {"dtype": "U8", "shape": [9], "data_offsets": [0, 9]}})", 8),
               {"'a': data_offsets", "within 8 bytes"});
  expect_parts(error_of(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [18446744073709551615, 0]}})", 8),
               {"'a': data_offsets"});
}

TEST(SafetensorsTest, OverlapsAndGapsAreReported) {
  const std::string message = error_of(
      R"({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
          "b": {"dtype": "U8", "shape": [4], "data_offsets": [3, 7]},
          "c": {"dtype": "U8", "shape": [1], "data_offsets": [9, 10]}})",
      12);
  expect_parts(message, {"'b' overlaps", "2 bytes before 'c'", "last 2 bytes", "3 problems"});
}

TEST(SafetensorsIndexTest, FileNamesStayInTheFolder) {
  const auto good = parse_safetensors_index(R"({"metadata": {}, "weight_map": {"a": "x.safetensors"}})", "index");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.value().at("a"), "x.safetensors");
  const auto bad = parse_safetensors_index(R"({"weight_map": {"a": "../x", "b": 3, "c": "", "d": "/etc/x"}})", "index");
  ASSERT_FALSE(bad.ok());
  expect_parts(bad.error().message, {"index", "4 problems", "'a'", "'b'", "'c'", "'d'"});
  EXPECT_FALSE(parse_safetensors_index("{}", "index").ok());
}

TEST(CheckpointTest, SeveralFilesAndAPrefixReadLikeOne) {
  std::map<std::string, BuilderTensor> tensors;
  for (int i = 0; i < 5; ++i) tensors[fmt::format("t{}", i)] = make_tensor("F32", {2, i + 1}, 3);
  CheckpointBuilder builder;
  builder.tensors = tensors;
  builder.tensors["model.p"] = make_tensor("F32", {1}, 1);
  const ScratchFolder one, three;
  builder.write(one.path());
  builder.write(three.path(), 3);
  const auto a = Checkpoint::open(one.path());
  const auto b = Checkpoint::open(three.path());
  ASSERT_TRUE(a.ok() && b.ok()) << (a.ok() ? b : a).error().message;
  EXPECT_EQ(a.value().tensors().size(), 6u);
  for (const auto& [name, tensor] : a.value().tensors()) {
    ASSERT_NE(b.value().find(name), nullptr);
    EXPECT_TRUE(std::ranges::equal(tensor.bytes, b.value().find(name)->bytes)) << name;
  }
  EXPECT_NE(a.value().find("p"), nullptr);
  EXPECT_EQ(a.value().find("q"), nullptr);
}

TEST(CheckpointTest, EveryBadFileIsReported) {
  CheckpointBuilder builder;
  for (const char* name : {"a", "b", "c", "model.c"}) builder.tensors[name] = make_tensor("F32", {2}, 3);
  const ScratchFolder folder;
  builder.write(folder.path(), 4);
  ASSERT_EQ(remove(folder.path("part-0.safetensors").c_str()), 0);
  write_bytes(folder.path("part-1.safetensors"), std::vector<std::byte>(5));
  const auto result = Checkpoint::open(folder.path());
  ASSERT_FALSE(result.ok());
  expect_parts(result.error().message,
               {"3 problems", "part-0.safetensors", "part-1.safetensors", "'c' is stored twice", "part-3"});
}

TEST(CheckpointTest, TensorsThatTheIndexPromisesMustBeThere) {
  CheckpointBuilder builder;
  for (const char* name : {"a", "b"}) builder.tensors[name] = make_tensor("F32", {2}, 3);
  const ScratchFolder folder;
  builder.write(folder.path(), 2);
  write_bytes(folder.path("part-1.safetensors"), safetensors_bytes("{}", {}));
  const auto result = Checkpoint::open(folder.path());
  ASSERT_FALSE(result.ok());
  expect_parts(result.error().message, {"'b' is not in part-1.safetensors"});
}

TEST(CheckpointTest, AFolderWithoutFilesNamesWhatIsExpected) {
  const ScratchFolder folder;
  const auto result = Checkpoint::open(folder.path());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  expect_parts(result.error().message, {folder.path(), "model.safetensors.index.json", "model.safetensors"});
}

}  // namespace
}  // namespace ds4
