#include "base/tensor.h"

#include <algorithm>

namespace ds4 {

const DTypeInfo& dtype_info(DType type) {
  static constexpr DTypeInfo kInfo[] = {
      {"F32", 1, 4},      {"F16", 1, 2},        {"BF16", 1, 2},    {"Q8_0", 32, 34}, {"Q2_K", 256, 84},
      {"Q4_K", 256, 144}, {"IQ2_XXS", 256, 66}, {"MXFP4", 32, 17}, {"I32", 1, 4},    {"U8", 1, 1},
  };
  static_assert(std::size(kInfo) == static_cast<size_t>(DType::kU8) + 1);
  return kInfo[static_cast<size_t>(type)];
}

std::string_view dtype_name(DType type) { return dtype_info(type).name; }

Shape::Shape(std::initializer_list<int64_t> extents) : Shape(std::span(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  CHECK(extents.size() <= kMaxDims, "rank {} exceeds {}", extents.size(), kMaxDims);
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (const int64_t extent : extents()) product *= extent;
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) text += fmt::format("{}{}", axis == 0 ? "" : ", ", (*this)[axis]);
  return text + "]";
}

bool Shape::operator==(const Shape& other) const { return std::ranges::equal(extents(), other.extents()); }

Result<uint64_t> row_bytes(DType type, int64_t n_elements) {
  const DTypeInfo& info = dtype_info(type);
  if (n_elements < 0 || n_elements % info.block_elements != 0) {
    return make_error(ErrorCode::kCorrupt, "a row of {} elements is not whole {} blocks of {}", n_elements, info.name,
                      info.block_elements);
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(n_elements) / info.block_elements, uint64_t{info.block_bytes},
                             &bytes)) {
    return make_error(ErrorCode::kCorrupt, "a row of {} {} elements overflows 64 bits", n_elements, info.name);
  }
  return bytes;
}

Result<uint64_t> tensor_bytes(DType type, const Shape& shape) {
  if (shape.rank() == 0) return make_error(ErrorCode::kCorrupt, "a tensor needs at least one dimension");
  uint64_t bytes = TRY(row_bytes(type, shape.back()));
  for (int axis = 0; axis + 1 < shape.rank(); ++axis) {
    if (shape[axis] < 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(shape[axis]), &bytes)) {
      return make_error(ErrorCode::kCorrupt, "a tensor of shape {} overflows 64 bits", shape.to_string());
    }
  }
  return bytes;
}

uint64_t TensorView::size_bytes() const {
  const DTypeInfo& info = dtype_info(type);
  return static_cast<uint64_t>(shape.elements()) / info.block_elements * info.block_bytes;
}

TensorView TensorView::rows(int64_t first, int64_t count) const {
  CHECK(shape.rank() >= 1 && first >= 0 && count >= 0 && first + count <= shape[0], "rows {}+{} of {}", first, count,
        shape.to_string());
  const uint64_t slice_bytes = shape[0] == 0 ? 0 : size_bytes() / static_cast<uint64_t>(shape[0]);
  std::array<int64_t, kMaxDims> extents{};
  std::ranges::copy(shape.extents(), extents.begin());
  extents[0] = count;
  TensorView view = *this;
  view.offset_bytes += static_cast<uint64_t>(first) * slice_bytes;
  view.shape = Shape(std::span(extents.data(), static_cast<size_t>(shape.rank())));
  return view;
}

TensorView TensorView::reshaped(Shape other) const {
  CHECK(other.elements() == shape.elements(), "{} reshaped to {}", shape.to_string(), other.to_string());
  TensorView view = *this;
  view.shape = other;
  return view;
}

}  // namespace ds4
