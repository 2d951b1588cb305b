#pragma once

// The GGUF v3 container, once, for reader and writer. Everything is little endian.
//
//   header       "GGUF", u32 version, u64 number of tensors, u64 number of metadata pairs
//   pairs        string key, u32 value type, value
//   tensor infos string name, u32 rank, u64 extents (innermost first), u32 ggml type, u64 offset
//   data         starts at the next multiple of the alignment; offsets count from there, each aligned too
//
// A string is a u64 byte length and its bytes. An array value is u32 element type, u64 length, elements.
// The alignment is the metadata key general.alignment, else 32.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/tensor.h"

namespace ds4 {

inline constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
inline constexpr uint32_t kGgufVersion = 3;
inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr std::string_view kGgufAlignmentKey = "general.alignment";

// Limits far above any real file; a count beyond them is refused before memory is taken for it.
inline constexpr uint64_t kGgufMaxPairs = 1u << 16;
inline constexpr uint64_t kGgufMaxTensors = 1u << 17;
inline constexpr uint64_t kGgufMaxNameBytes = 1u << 16;
inline constexpr uint64_t kGgufMaxDirectoryBytes = 1u << 26;
inline constexpr uint64_t kGgufMaxArrayDepth = 8;

// The fewest bytes that one of each can take in a file.
inline constexpr uint64_t kGgufMinStringBytes = 8;
inline constexpr uint64_t kGgufMinArrayBytes = 4 + 8;
inline constexpr uint64_t kGgufMinPairBytes = kGgufMinStringBytes + 4 + 1;
inline constexpr uint64_t kGgufMinTensorInfoBytes = kGgufMinStringBytes + 4 + 8 + 4 + 8;

enum class GgufType : uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

std::optional<GgufType> gguf_type_from_id(uint32_t id);
std::string_view gguf_type_name(GgufType type);  // "u32"
// Bytes of one value; 0 for strings and arrays, whose size varies.
uint32_t gguf_type_bytes(GgufType type);
bool gguf_type_is_integer(GgufType type);

// Our type for a ggml tensor type id; empty for the ones that this engine does not know.
std::optional<DType> dtype_from_ggml(uint32_t ggml_type);
// The reverse; empty for U8, which files cannot hold.
std::optional<uint32_t> dtype_to_ggml(DType type);
// "Q6_K" for ids that ggml defines, "type 99" for others.
std::string ggml_type_name(uint32_t ggml_type);

// A name from a file as it may appear in a message: quoted, unprintable bytes escaped, shortened.
std::string quoted_name(std::string_view name);

}  // namespace ds4
