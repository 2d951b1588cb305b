// Planes of weights: their places (no device needed), and that the device's way there and back keeps every byte.

#include "backends/cuda/kernels/weight_layout.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

#include "backends/cuda/kernels/kernels.h"

namespace ds4::cuda {
namespace {

constexpr WeightType kQuantised[] = {WeightType::kQ8_0, WeightType::kQ2_K, WeightType::kQ4_K, WeightType::kIQ2_XXS,
                                     WeightType::kMXFP4};

TEST(WeightLayout, HasPlanesForWholeBlocksOfQuantisedTypes) {
  for (const WeightType type : kQuantised) {
    EXPECT_TRUE(has_planes(type, 256));
    EXPECT_TRUE(has_planes(type, 4096 + 256));
    EXPECT_FALSE(has_planes(type, 96));
    EXPECT_FALSE(has_planes(type, 0));
  }
  for (const WeightType type : {WeightType::kF32, WeightType::kF16, WeightType::kBF16}) {
    EXPECT_FALSE(has_planes(type, 4096));
  }
  const WeightPlanes plain = weight_planes(WeightType::kF16, 3, 96);
  EXPECT_EQ(plain.n_planes, 1);
  EXPECT_EQ(plain.row_bytes[0], 192);
  EXPECT_EQ(plain.size_bytes, 576);
}

TEST(WeightLayout, PlanesAreAlignedAndApart) {
  for (const WeightType type : kQuantised) {
    for (const int64_t n_rows : {1, 7, 1024}) {
      const WeightPlanes planes = weight_planes(type, n_rows, 1280);
      int64_t end = 0;
      for (int32_t p = 0; p < planes.n_planes; ++p) {
        EXPECT_EQ(planes.offset[p] % kPlaneAlignment, 0);
        EXPECT_GE(planes.offset[p], end);
        end = planes.offset[p] + n_rows * planes.row_bytes[p];
      }
      EXPECT_EQ(planes.size_bytes, end);
    }
  }
}

TEST(WeightLayout, SizesOfRows) {
  const auto row_bytes = [](WeightType type) {
    const WeightPlanes planes = weight_planes(type, 1, 4096);
    return std::vector<int64_t>(planes.row_bytes, planes.row_bytes + planes.n_planes);
  };
  EXPECT_EQ(row_bytes(WeightType::kQ8_0), (std::vector<int64_t>{4096, 256}));
  EXPECT_EQ(row_bytes(WeightType::kQ4_K), (std::vector<int64_t>{2048, 256, 64}));
  EXPECT_EQ(row_bytes(WeightType::kQ2_K), (std::vector<int64_t>{1024, 256, 64}));
  EXPECT_EQ(row_bytes(WeightType::kIQ2_XXS), (std::vector<int64_t>{1024, 64, 32}));
  EXPECT_EQ(row_bytes(WeightType::kMXFP4), (std::vector<int64_t>{2048, 128}));
}

TEST(WeightLayout, HalvesOfQ8TilesCoverTheRow) {
  for (const int64_t n_units : {8, 32, 40, 128}) {
    std::set<int64_t> offsets;
    for (int64_t unit = 0; unit < n_units; ++unit) {
      for (int64_t half = 0; half < 2; ++half) offsets.insert(q8_half_offset(unit, half, n_units));
    }
    EXPECT_EQ(static_cast<int64_t>(offsets.size()), 2 * n_units);
    EXPECT_EQ(*offsets.begin(), 0);
    EXPECT_EQ(*offsets.rbegin(), 32 * n_units - 16);
  }
  EXPECT_EQ(q8_half_offset(33, 1, 128), 1024 + (32 + 1) * 16);
  EXPECT_EQ(q8_half_offset(33, 1, 40), 1024 + (8 + 1) * 16);
}

class DeviceBytes {
 public:
  explicit DeviceBytes(size_t n) : n_(n) { EXPECT_EQ(cudaMalloc(&data_, n), cudaSuccess); }
  ~DeviceBytes() { (void)cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  uint8_t* get() const { return static_cast<uint8_t*>(data_); }
  void set(const std::vector<uint8_t>& bytes) const {
    EXPECT_EQ(cudaMemcpy(data_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> out(n_);
    EXPECT_EQ(cudaMemcpy(out.data(), data_, n_, cudaMemcpyDeviceToHost), cudaSuccess);
    return out;
  }

 private:
  size_t n_;
  void* data_ = nullptr;
};

TEST(WeightLayout, UnpackingGivesTheFilesBytes) {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) GTEST_SKIP() << "no CUDA device";
  std::mt19937 random(1);
  for (const WeightType type : kQuantised) {
    for (const int64_t n_in : {256, 1024, 1280, 4096}) {
      constexpr int64_t kRows = 13;
      const auto row_bytes = static_cast<size_t>(file_row_bytes(type, n_in));
      std::vector<uint8_t> file(kRows * row_bytes);
      for (uint8_t& byte : file) byte = static_cast<uint8_t>(random());
      const DeviceBytes source(file.size()), back(file.size());
      const DeviceBytes planes(static_cast<size_t>(weight_planes(type, kRows, n_in).size_bytes));
      source.set(file);
      back.set(std::vector<uint8_t>(file.size(), 0xFF));
      for (const int64_t first : {0, 5}) {  // in two parts
        const int64_t n = first == 0 ? 5 : kRows - 5;
        const auto skipped = static_cast<size_t>(first) * row_bytes;
        EXPECT_EQ(repack({type, source.get() + skipped, planes.get(), kRows, n_in, first, n}, nullptr), cudaSuccess);
        EXPECT_EQ(unpack({type, back.get() + skipped, planes.get(), kRows, n_in, first, n}, nullptr), cudaSuccess);
      }
      EXPECT_EQ(back.bytes(), file) << "type " << static_cast<int>(type) << ", rows of " << n_in;
    }
  }
}

}  // namespace
}  // namespace ds4::cuda
