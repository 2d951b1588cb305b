#include "gguf/metadata.h"

#include <bit>
#include <cstring>
#include <limits>
#include <utility>

namespace ds4 {

namespace {

template <class T>
T load(std::string_view bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// An integer of any width in 64 bits; unsigned values above the signed range are marked.
struct WideInteger {
  uint64_t bits;
  bool too_large;
};

WideInteger load_integer(GgufType type, std::string_view bytes, size_t index) {
  const auto widen = [&]<class T>(T) {
    const T value = load<T>(bytes, index);
    const bool too_large = std::is_same_v<T, uint64_t> && static_cast<uint64_t>(value) > INT64_MAX;
    return WideInteger{static_cast<uint64_t>(value), too_large};
  };
  switch (type) {
    case GgufType::kU8: return widen(uint8_t{});
    case GgufType::kI8: return widen(int8_t{});
    case GgufType::kU16: return widen(uint16_t{});
    case GgufType::kI16: return widen(int16_t{});
    case GgufType::kU32: return widen(uint32_t{});
    case GgufType::kI32: return widen(int32_t{});
    case GgufType::kU64: return widen(uint64_t{});
    case GgufType::kI64: return widen(int64_t{});
    case GgufType::kF32:
    case GgufType::kBool:
    case GgufType::kString:
    case GgufType::kArray:
    case GgufType::kF64: break;
  }
  CHECK(false, "{} is not an integer type", gguf_type_name(type));
  return {};
}

bool is_number(GgufType type) { return gguf_type_is_integer(type) || type == GgufType::kF32 || type == GgufType::kF64; }

double load_number(GgufType type, std::string_view bytes, size_t index) {
  if (type == GgufType::kF32) return static_cast<double>(load<float>(bytes, index));
  if (type == GgufType::kF64) return load<double>(bytes, index);
  const WideInteger integer = load_integer(type, bytes, index);
  return integer.too_large ? static_cast<double>(integer.bits)
                           : static_cast<double>(static_cast<int64_t>(integer.bits));
}

Error wrong_type(std::string_view key, const MetadataValue& value, std::string_view wanted) {
  return make_error(ErrorCode::kCorrupt, "metadata key {} has type {}, expected {}", quoted_name(key),
                    value.type_text(), wanted);
}

Error too_large(std::string_view key, uint64_t value) {
  return make_error(ErrorCode::kCorrupt, "metadata key {} is {}, expected at most {}", quoted_name(key), value,
                    INT64_MAX);
}

// Walks the elements of a string array; their lengths were checked when it was read.
class StringCursor {
 public:
  explicit StringCursor(std::string_view bytes) : bytes_(bytes) {}
  std::string_view next() {
    const auto length = load<uint64_t>(bytes_, 0);
    const std::string_view text = bytes_.substr(sizeof(uint64_t), length);
    bytes_.remove_prefix(sizeof(uint64_t) + length);
    return text;
  }

 private:
  std::string_view bytes_;
};

std::string element_text(GgufType type, std::string_view bytes, size_t index) {
  if (type == GgufType::kBool) return load<uint8_t>(bytes, index) != 0 ? "true" : "false";
  if (type == GgufType::kF32) return fmt::format("{}", load<float>(bytes, index));
  if (type == GgufType::kF64) return fmt::format("{}", load<double>(bytes, index));
  const WideInteger integer = load_integer(type, bytes, index);
  if (integer.too_large) return fmt::format("{}", integer.bits);
  return fmt::format("{}", static_cast<int64_t>(integer.bits));
}

template <class T>
std::string encoded(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <class T>
MetadataValue number_value(GgufType type, T value) {
  return {.type = type, .bytes = encoded(value)};
}

template <class T>
MetadataValue array_value(GgufType type, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  return {.type = GgufType::kArray,
          .element_type = type,
          .count = values.size(),
          .bytes = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())};
}

}  // namespace

std::string MetadataValue::type_text() const {
  if (type != GgufType::kArray) return std::string(gguf_type_name(type));
  return fmt::format("array of {}", gguf_type_name(element_type));
}

std::string MetadataValue::to_text(size_t max_elements) const {
  if (type == GgufType::kString) return quoted_name(bytes);
  if (type != GgufType::kArray) return element_text(type, bytes, 0);
  std::string text = "[";
  if (element_type != GgufType::kArray) {
    StringCursor strings(bytes);
    for (size_t i = 0; i < std::min<uint64_t>(count, max_elements); ++i) {
      if (i > 0) text += ", ";
      text += element_type == GgufType::kString ? quoted_name(strings.next()) : element_text(element_type, bytes, i);
    }
    if (count <= max_elements) return text + "]";
  }
  return text + fmt::format("{}... ({} {})]", text.size() > 1 ? ", " : "", count, gguf_type_name(element_type));
}

const MetadataValue* Metadata::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

Result<const MetadataValue*> Metadata::require(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return make_error(ErrorCode::kNotFound, "metadata key {} is missing", quoted_name(key));
  return value;
}

Result<int64_t> Metadata::get_int(std::string_view key) const {
  const MetadataValue& value = *TRY(require(key));
  if (!gguf_type_is_integer(value.type)) return wrong_type(key, value, "an integer");
  const WideInteger integer = load_integer(value.type, value.bytes, 0);
  if (integer.too_large) return too_large(key, integer.bits);
  return static_cast<int64_t>(integer.bits);
}

Result<double> Metadata::get_float(std::string_view key) const {
  const MetadataValue& value = *TRY(require(key));
  if (!is_number(value.type)) return wrong_type(key, value, "a number");
  return load_number(value.type, value.bytes, 0);
}

Result<bool> Metadata::get_bool(std::string_view key) const {
  const MetadataValue& value = *TRY(require(key));
  if (value.type != GgufType::kBool) return wrong_type(key, value, "bool");
  return value.bytes[0] != 0;
}

Result<std::string_view> Metadata::get_string(std::string_view key) const {
  const MetadataValue& value = *TRY(require(key));
  if (value.type != GgufType::kString) return wrong_type(key, value, "string");
  return std::string_view(value.bytes);
}

Result<const MetadataValue*> Metadata::require_array(std::string_view key, std::string_view wanted) const {
  const MetadataValue* value = TRY(require(key));
  if (value->type != GgufType::kArray) return wrong_type(key, *value, wanted);
  return value;
}

Result<std::vector<int64_t>> Metadata::get_int_array(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of integers";
  const MetadataValue& value = *TRY(require_array(key, kWanted));
  if (!gguf_type_is_integer(value.element_type)) return wrong_type(key, value, kWanted);
  std::vector<int64_t> integers(value.count);
  for (size_t i = 0; i < integers.size(); ++i) {
    const WideInteger integer = load_integer(value.element_type, value.bytes, i);
    if (integer.too_large) return too_large(key, integer.bits);
    integers[i] = static_cast<int64_t>(integer.bits);
  }
  return integers;
}

Result<std::vector<double>> Metadata::get_float_array(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of numbers";
  const MetadataValue& value = *TRY(require_array(key, kWanted));
  if (!is_number(value.element_type)) return wrong_type(key, value, kWanted);
  std::vector<double> numbers(value.count);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = load_number(value.element_type, value.bytes, i);
  return numbers;
}

Result<std::vector<std::string_view>> Metadata::get_string_array(std::string_view key) const {
  constexpr std::string_view kWanted = "an array of strings";
  const MetadataValue& value = *TRY(require_array(key, kWanted));
  if (value.element_type != GgufType::kString) return wrong_type(key, value, kWanted);
  std::vector<std::string_view> strings(value.count);
  StringCursor cursor(value.bytes);
  for (std::string_view& text : strings) text = cursor.next();
  return strings;
}

void Metadata::set_value(std::string_view key, MetadataValue value) {
  const auto [position, is_new] = index_.try_emplace(std::string(key), entries_.size());
  if (is_new)
    entries_.push_back({std::string(key), std::move(value)});
  else
    entries_[position->second].value = std::move(value);
}

void Metadata::set_u32(std::string_view key, uint32_t value) { set_value(key, number_value(GgufType::kU32, value)); }
void Metadata::set_i32(std::string_view key, int32_t value) { set_value(key, number_value(GgufType::kI32, value)); }
void Metadata::set_u64(std::string_view key, uint64_t value) { set_value(key, number_value(GgufType::kU64, value)); }
void Metadata::set_f32(std::string_view key, float value) { set_value(key, number_value(GgufType::kF32, value)); }
void Metadata::set_bool(std::string_view key, bool value) {
  set_value(key, number_value(GgufType::kBool, static_cast<uint8_t>(value)));
}
void Metadata::set_string(std::string_view key, std::string_view value) {
  set_value(key, {.type = GgufType::kString, .bytes = std::string(value)});
}
void Metadata::set_u32_array(std::string_view key, std::span<const uint32_t> values) {
  set_value(key, array_value(GgufType::kU32, values));
}
void Metadata::set_i32_array(std::string_view key, std::span<const int32_t> values) {
  set_value(key, array_value(GgufType::kI32, values));
}
void Metadata::set_f32_array(std::string_view key, std::span<const float> values) {
  set_value(key, array_value(GgufType::kF32, values));
}
void Metadata::set_string_array(std::string_view key, std::span<const std::string> values) {
  MetadataValue value{.type = GgufType::kArray, .element_type = GgufType::kString, .count = values.size(), .bytes = {}};
  for (const std::string& text : values) {
    value.bytes += encoded(uint64_t{text.size()});
    value.bytes += text;
  }
  set_value(key, std::move(value));
}

Result<uint32_t> gguf_alignment(const Metadata& metadata) {
  constexpr int64_t kSmallest = 8;
  constexpr int64_t kLargest = 1 << 20;
  if (!metadata.contains(kGgufAlignmentKey)) return kGgufDefaultAlignment;
  const int64_t alignment = TRY(metadata.get_int(kGgufAlignmentKey));
  if (alignment < kSmallest || alignment > kLargest || !std::has_single_bit(static_cast<uint64_t>(alignment))) {
    return make_error(ErrorCode::kCorrupt, "metadata key '{}' is {}, expected a power of two from {} to {}",
                      kGgufAlignmentKey, alignment, kSmallest, kLargest);
  }
  return static_cast<uint32_t>(alignment);
}

}  // namespace ds4
