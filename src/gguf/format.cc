#include "gguf/format.h"

#include <fmt/format.h>

#include <array>

namespace ds4 {

namespace {

struct GgufTypeInfo {
  std::string_view name;
  uint32_t bytes;
  bool is_integer;
};

constexpr std::array<GgufTypeInfo, 13> kTypes = {{
    {"u8", 1, true},
    {"i8", 1, true},
    {"u16", 2, true},
    {"i16", 2, true},
    {"u32", 4, true},
    {"i32", 4, true},
    {"f32", 4, false},
    {"bool", 1, false},
    {"string", 0, false},
    {"array", 0, false},
    {"u64", 8, true},
    {"i64", 8, true},
    {"f64", 8, false},
}};

const GgufTypeInfo& info(GgufType type) { return kTypes[static_cast<size_t>(type)]; }

struct GgmlType {
  uint32_t id;
  std::string_view name;
  std::optional<DType> dtype;
};

constexpr GgmlType kGgmlTypes[] = {
    {0, "F32", DType::kF32},
    {1, "F16", DType::kF16},
    {2, "Q4_0", {}},
    {3, "Q4_1", {}},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", DType::kQ8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", DType::kQ2_K},
    {11, "Q3_K", {}},
    {12, "Q4_K", DType::kQ4_K},
    {13, "Q5_K", {}},
    {14, "Q6_K", {}},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", DType::kIQ2_XXS},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", {}},
    {25, "I16", {}},
    {26, "I32", DType::kI32},
    {27, "I64", {}},
    {28, "F64", {}},
    {29, "IQ1_M", {}},
    {30, "BF16", DType::kBF16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", DType::kMXFP4},
};

}  // namespace

std::optional<GgufType> gguf_type_from_id(uint32_t id) {
  if (id >= kTypes.size()) return std::nullopt;
  return static_cast<GgufType>(id);
}

std::string_view gguf_type_name(GgufType type) { return info(type).name; }
uint32_t gguf_type_bytes(GgufType type) { return info(type).bytes; }
bool gguf_type_is_integer(GgufType type) { return info(type).is_integer; }

std::optional<DType> dtype_from_ggml(uint32_t ggml_type) {
  for (const GgmlType& entry : kGgmlTypes) {
    if (entry.id == ggml_type) return entry.dtype;
  }
  return std::nullopt;
}

std::optional<uint32_t> dtype_to_ggml(DType type) {
  for (const GgmlType& entry : kGgmlTypes) {
    if (entry.dtype == type) return entry.id;
  }
  return std::nullopt;
}

std::string ggml_type_name(uint32_t ggml_type) {
  for (const GgmlType& entry : kGgmlTypes) {
    if (entry.id == ggml_type) return std::string(entry.name);
  }
  return fmt::format("type {}", ggml_type);
}

std::string quoted_name(std::string_view name) {
  constexpr size_t kMaxShown = 96;
  std::string text = "'";
  for (const char c : name.substr(0, kMaxShown)) {
    if (c >= ' ' && c <= '~' && c != '\'' && c != '\\')
      text += c;
    else
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  if (name.size() > kMaxShown) text += fmt::format("... ({} bytes)", name.size());
  return text + "'";
}

}  // namespace ds4
