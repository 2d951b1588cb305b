#pragma once

// DType with its block geometry, Shape, and TensorView: the one way to name a piece of memory, on the
// host or on a device. A view owns nothing and must not outlive its Buffer; views are values, freely
// copied between threads. Shapes are written outermost first, as in the contracts of ops/ops.h:
// x [n_rows, n_embd] has shape {n_rows, n_embd} and n_embd is contiguous. (GGUF files list the same
// dimensions in reverse; gguf/reader.h converts.)

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/error.h"

namespace ds4 {

enum class DType : uint8_t { kF32, kF16, kBF16, kQ8_0, kQ2_K, kQ4_K, kIQ2_XXS, kMXFP4, kI32, kU8 };

inline constexpr int kMaxDims = 4;

struct DTypeInfo {
  std::string_view name;    // as ggml spells it: "Q8_0"
  uint32_t block_elements;  // elements that share a block; rows are whole blocks
  uint32_t block_bytes;
};

// Total over DType.
const DTypeInfo& dtype_info(DType type);
std::string_view dtype_name(DType type);

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  explicit Shape(std::span<const int64_t> extents);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return extents_[static_cast<size_t>(axis)]; }
  int64_t back() const { return extents_[static_cast<size_t>(rank_ - 1)]; }
  int64_t elements() const;
  std::span<const int64_t> extents() const { return {extents_.data(), static_cast<size_t>(rank_)}; }
  std::string to_string() const;  // "[256, 4096]"
  bool operator==(const Shape& other) const;

 private:
  std::array<int64_t, kMaxDims> extents_{};
  int rank_ = 0;
};

// Bytes of one contiguous row of n_elements. Error when they are not whole blocks or overflow.
Result<uint64_t> row_bytes(DType type, int64_t n_elements);
// Bytes of a whole tensor of that shape (row bytes times the outer extents), overflow checked.
Result<uint64_t> tensor_bytes(DType type, const Shape& shape);

// Memory owned by a backend, or borrowed from a file mapping.
class Buffer {
 public:
  virtual ~Buffer() = default;
  // Address usable by the CPU, or null for memory that only a device can reach.
  virtual std::byte* host_data() const = 0;
  virtual uint64_t size_bytes() const = 0;
};

struct TensorView {
  const Buffer* buffer = nullptr;
  uint64_t offset_bytes = 0;
  DType type = DType::kF32;
  Shape shape;

  explicit operator bool() const { return buffer != nullptr; }
  int64_t elements() const { return shape.elements(); }
  uint64_t size_bytes() const;

  // Host pointer to the first element. Preconditions: host memory, and T fits the type's storage.
  template <class T>
  T* data() const {
    DCHECK(buffer != nullptr && buffer->host_data() != nullptr, "no host memory");
    return reinterpret_cast<T*>(buffer->host_data() + offset_bytes);
  }
  float* f32() const {
    DCHECK(type == DType::kF32, "type is {}", dtype_name(type));
    return data<float>();
  }
  int32_t* i32() const {
    DCHECK(type == DType::kI32, "type is {}", dtype_name(type));
    return data<int32_t>();
  }
  // Sub-view of `count` slices along the outermost axis from `first`.
  TensorView rows(int64_t first, int64_t count) const;
  // The same memory seen under another shape with as many elements.
  TensorView reshaped(Shape other) const;
};

}  // namespace ds4
