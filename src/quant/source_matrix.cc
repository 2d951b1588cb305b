#include "quant/source_matrix.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/float_formats.h"
#include "gguf/blocks.h"

namespace ds4 {

namespace {

constexpr int64_t kFp8Tile = 128;
constexpr int64_t kFp4Block = 32;
static_assert(kFp4Block == BlockMXFP4::kElements);

std::vector<int64_t> without_ones(const Shape& shape) {
  std::vector<int64_t> extents;
  for (const int64_t extent : shape.extents()) {
    if (extent != 1) extents.push_back(extent);
  }
  return extents;
}

int64_t tiles(int64_t extent) { return (extent + kFp8Tile - 1) / kFp8Tile; }

std::string scale_name_of(std::string_view name) {
  constexpr std::string_view kSuffix = ".weight";
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  return fmt::format("{}.scale", name);
}

// The shape in which the values of such a matrix are stored, and that of its scales (rank 0: it has none).
struct StoredShapes {
  Shape weight;
  Shape scale;
};

std::optional<StoredShapes> stored_shapes(SourceType type, const Shape& wanted, int64_t n_rows, int64_t row_elements) {
  switch (type) {
    case SourceType::kF32:
    case SourceType::kF16:
    case SourceType::kBF16: return StoredShapes{wanted, {}};
    case SourceType::kF8E4M3: return StoredShapes{wanted, {tiles(n_rows), tiles(row_elements)}};
    case SourceType::kI8:
    case SourceType::kU8:
      if (row_elements % kFp4Block != 0) return std::nullopt;
      return StoredShapes{{n_rows, row_elements / 2}, {n_rows, row_elements / kFp4Block}};
    case SourceType::kF8E8M0:
    case SourceType::kI32:
    case SourceType::kI64: return std::nullopt;
  }
  return std::nullopt;
}

bool check_scale(const Checkpoint& checkpoint, const std::string& name, const Shape& wanted, SourceMatrix& matrix,
                 ProblemList& problems) {
  matrix.scale = checkpoint.find(name);
  if (matrix.scale == nullptr) {
    problems.add("tensor {} is missing: {} is {}", name, matrix.weight->name, source_type_name(matrix.weight->type));
    return false;
  }
  if (matrix.scale->type == SourceType::kF8E8M0 && same_shape(matrix.scale->shape, wanted)) return true;
  problems.add("tensor {}: expected F8_E8M0 {}, found {} {}", name, wanted.to_string(),
               source_type_name(matrix.scale->type), matrix.scale->shape.to_string());
  return false;
}

template <class T>
T load(const std::byte* bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

const std::byte* row_of(const SourceTensor& tensor, int64_t row, int64_t row_elements) {
  return tensor.bytes.data() + row * row_elements * source_type_bytes(tensor.type);
}

uint8_t fp4_code(const std::byte* row, int64_t element) {
  const auto pair = load<uint8_t>(row, element / 2);
  return static_cast<uint8_t>(element % 2 == 0 ? pair & 15 : pair >> 4);
}

}  // namespace

bool same_shape(const Shape& a, const Shape& b) { return without_ones(a) == without_ones(b); }

std::optional<SourceMatrix> find_source_matrix(const Checkpoint& checkpoint, std::string_view name, const Shape& wanted,
                                               ProblemList& problems) {
  SourceMatrix matrix;
  matrix.weight = checkpoint.find(name);
  if (matrix.weight == nullptr) {
    problems.add("tensor {} is missing", name);
    return std::nullopt;
  }
  matrix.row_elements = wanted.back();
  matrix.n_rows = wanted.elements() / matrix.row_elements;
  const SourceTensor& weight = *matrix.weight;
  const auto stored = stored_shapes(weight.type, wanted, matrix.n_rows, matrix.row_elements);
  if (!stored || !same_shape(weight.shape, stored->weight)) {
    problems.add("tensor {}: expected {} values{}, found {} {}", name, wanted.to_string(),
                 stored && stored->weight != wanted ? " as " + stored->weight.to_string() + " bytes" : "",
                 source_type_name(weight.type), weight.shape.to_string());
    return std::nullopt;
  }
  if (stored->scale.rank() > 0 && !check_scale(checkpoint, scale_name_of(name), stored->scale, matrix, problems)) {
    return std::nullopt;
  }
  return matrix;
}

void decode_row(const SourceMatrix& matrix, int64_t row, std::span<float> out) {
  const int64_t n = matrix.row_elements;
  CHECK(row >= 0 && row < matrix.n_rows && static_cast<int64_t>(out.size()) == n, "row {} of {}", row, matrix.n_rows);
  const SourceType type = matrix.weight->type;
  const std::byte* source = row_of(*matrix.weight, row, matrix.is_fp4() ? n / 2 : n);
  float* values = out.data();
  if (type == SourceType::kF32) {
    std::memcpy(values, source, out.size_bytes());
  } else if (type == SourceType::kF16) {
    for (int64_t i = 0; i < n; ++i) values[i] = f16_to_f32(load<uint16_t>(source, i));
  } else if (type == SourceType::kBF16) {
    for (int64_t i = 0; i < n; ++i) values[i] = bf16_to_f32(load<uint16_t>(source, i));
  } else if (type == SourceType::kF8E4M3) {
    const std::byte* scales = row_of(*matrix.scale, row / kFp8Tile, tiles(n));
    for (int64_t i = 0; i < n; ++i) {
      values[i] = e4m3_to_f32(load<uint8_t>(source, i)) * e8m0_to_f32(load<uint8_t>(scales, i / kFp8Tile));
    }
  } else {
    CHECK(matrix.is_fp4(), "{} has type {}", matrix.weight->name, source_type_name(type));
    const std::byte* scales = row_of(*matrix.scale, row, n / kFp4Block);
    for (int64_t i = 0; i < n; ++i) {
      values[i] = e2m1_to_f32(fp4_code(source, i)) * e8m0_to_f32(load<uint8_t>(scales, i / kFp4Block));
    }
  }
}

void repack_row_as_mxfp4(const SourceMatrix& matrix, int64_t row, std::byte* out) {
  CHECK(matrix.is_fp4() && row >= 0 && row < matrix.n_rows, "row {} of {}", row, matrix.n_rows);
  constexpr int64_t kHalf = kFp4Block / 2;
  const std::byte* source = row_of(*matrix.weight, row, matrix.row_elements / 2);
  const std::byte* scales = row_of(*matrix.scale, row, matrix.row_elements / kFp4Block);
  for (int64_t first = 0; first < matrix.row_elements; first += kFp4Block) {
    BlockMXFP4 block;
    block.e = load<uint8_t>(scales, first / kFp4Block);
    for (int64_t j = 0; j < kHalf; ++j) {
      block.qs[j] = static_cast<uint8_t>(fp4_code(source, first + j) | (fp4_code(source, first + j + kHalf) << 4));
    }
    std::memcpy(out, &block, sizeof(block));
    out += sizeof(block);
  }
}

}  // namespace ds4
