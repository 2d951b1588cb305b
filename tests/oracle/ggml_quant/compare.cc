// compare MODEL: our quantisers against those of ggml, on the same rows: normal, heavy-tailed, and rows of the BF16
// matrices of MODEL; without importance of the columns, with some, and with very uneven importance. Ours may have at
// most 1.01 times the weighted root mean square error. ggml also reads our blocks back, bit by bit as we do. Prints a
// table and "N passed, N failed". There are no headers to include, so ggml's few functions are declared here.

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/rng.h"
#include "gguf/dequantize.h"
#include "gguf/quantize.h"
#include "gguf/reader.h"

// Type, source, out, first row, rows, columns, importance.
using GgmlQuantize = size_t(int, const float*, void*, int64_t, int64_t, int64_t, const float*);
using GgmlDequantize = void(const void* blocks, float* out, int64_t n_elements);
extern "C" {
extern GgmlQuantize ggml_quantize_chunk;
extern GgmlDequantize dequantize_row_q8_0, dequantize_row_q2_K, dequantize_row_q4_K, dequantize_row_iq2_xxs,
    dequantize_row_mxfp4;
}

namespace ds4 {
namespace {

constexpr double kMostRatio = 1.01;
constexpr size_t kColumns = 4096;
constexpr size_t kRows = 24;

struct Format {
  DType type;
  int ggml_type;
  GgmlDequantize* ggml_dequantize;
};
constexpr Format kFormats[] = {{DType::kQ8_0, 8, dequantize_row_q8_0},
                               {DType::kMXFP4, 39, dequantize_row_mxfp4},
                               {DType::kQ4_K, 12, dequantize_row_q4_K},
                               {DType::kQ2_K, 10, dequantize_row_q2_K},
                               {DType::kIQ2_XXS, 16, dequantize_row_iq2_xxs}};

struct Rows {
  std::string name;
  std::vector<float> values;  // [kRows, kColumns]
};

float normal(Xorshift64Star& random) {
  const double u = 1.0 - static_cast<double>(random.next_unit());
  const double angle = 6.283185307179586 * static_cast<double>(random.next_unit());
  return static_cast<float>(std::sqrt(-2.0 * std::log(u)) * std::cos(angle));
}

std::vector<Rows> make_rows(const GgufFile& model) {
  std::vector<Rows> all = {{"normal", {}}, {"student 3", {}}, {"laplace", {}}, {"model", {}}};
  Xorshift64Star random(20);
  for (size_t i = 0; i < kRows * kColumns; ++i) {
    const float x = normal(random);
    const float a = normal(random), b = normal(random), c = normal(random);
    const float exponential = -std::log(1.0f - random.next_unit());
    all[0].values.push_back(0.02f * x);
    all[1].values.push_back(0.02f * x / std::sqrt((a * a + b * b + c * c) / 3.0f));
    all[2].values.push_back(0.02f * std::copysign(exponential, a));
  }
  std::vector<float>& real = all[3].values;
  for (const TensorInfo& tensor : model.tensors()) {
    if (tensor.type != DType::kBF16 || tensor.shape.rank() != 2) continue;
    const TensorView view = model.view(tensor);
    const size_t first = real.size();
    real.resize(first + static_cast<size_t>(view.elements()));
    dequantize_row(DType::kBF16, view.data<std::byte>(), real.data() + first, view.elements());
  }
  CHECK(real.size() >= kRows * kColumns, "the model has only {} BF16 values", real.size());
  // From all over the tensors: the first rows belong to control tokens.
  const size_t stride = real.size() / (kRows * kColumns) * kColumns;
  for (size_t row = 0; row < kRows; ++row) {
    for (size_t i = 0; i < kColumns; ++i) real[row * kColumns + i] = real[row * stride + i];
  }
  real.resize(kRows * kColumns);
  return all;
}

double weighted_rmse(const std::vector<float>& wanted, const std::vector<float>& found, const float* importance) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double weight = importance != nullptr ? static_cast<double>(importance[i % kColumns]) : 1.0;
    error += weight * std::pow(static_cast<double>(wanted[i]) - static_cast<double>(found[i]), 2);
    norm += weight * std::pow(static_cast<double>(wanted[i]), 2);
  }
  return std::sqrt(error / norm);
}

struct Outcome {
  double theirs = 0, ours = 0;          // weighted relative RMSE
  double their_rate = 0, our_rate = 0;  // millions of weights a second of one thread
  bool same_values = false;
};

Outcome compare(const Format& format, const Rows& rows, const float* importance) {
  const size_t row_bytes_count = row_bytes(format.type, kColumns).value();
  std::vector<std::byte> theirs(row_bytes_count * kRows), ours(theirs.size());
  const std::vector<float> ones(kColumns, 1.0f);
  // ggml insists on importance for this type.
  const bool needs_some = format.type == DType::kIQ2_XXS && importance == nullptr;
  const std::clock_t start = std::clock();
  ggml_quantize_chunk(format.ggml_type, rows.values.data(), theirs.data(), 0, kRows, kColumns,
                      needs_some ? ones.data() : importance);
  const std::clock_t middle = std::clock();
  for (size_t row = 0; row < kRows; ++row) {
    quantize_row(format.type, rows.values.data() + row * kColumns, importance, ours.data() + row * row_bytes_count,
                 kColumns);
  }
  const std::clock_t end = std::clock();
  std::vector<float> their_values(rows.values.size()), our_values(their_values.size()), read_back(their_values.size());
  const auto n = static_cast<int64_t>(rows.values.size());
  format.ggml_dequantize(theirs.data(), their_values.data(), n);
  format.ggml_dequantize(ours.data(), read_back.data(), n);
  dequantize_row(format.type, ours.data(), our_values.data(), n);
  const auto rate = [n](std::clock_t clocks) {
    return static_cast<double>(n) / 1e6 / (static_cast<double>(clocks + 1) / CLOCKS_PER_SEC);
  };
  return {weighted_rmse(rows.values, their_values, importance), weighted_rmse(rows.values, our_values, importance),
          rate(middle - start), rate(end - middle), read_back == our_values};
}

std::vector<float> uneven_importance(float spread) {
  Xorshift64Star random(21);
  std::vector<float> importance(kColumns);
  for (float& weight : importance) weight = std::exp(spread * normal(random));
  return importance;
}

int run(const char* model_path) {
  const auto model = GgufFile::open(model_path);
  if (!model.ok()) {
    fmt::print("{}\n0 passed, 1 failed\n", model.error().message);
    return 1;
  }
  const std::vector<float> some = uneven_importance(1.0f), much = uneven_importance(2.5f);
  const std::array<std::pair<const char*, const float*>, 3> kImportance = {
      {{"none", nullptr}, {"uneven", some.data()}, {"very uneven", much.data()}}};
  int passed = 0, failed = 0;
  fmt::print("type     rows       importance     ggml     ours    ratio   M weights/s: ggml  ours\n");
  const std::vector<Rows> all = make_rows(*model.value());
  for (const Format& format : kFormats) {
    for (const Rows& rows : all) {
      for (const auto& [name, importance] : kImportance) {
        const Outcome outcome = compare(format, rows, importance);
        const double ratio = outcome.ours / outcome.theirs;
        const bool good = ratio <= kMostRatio && outcome.same_values;
        ++(good ? passed : failed);
        fmt::print("{:<8} {:<10} {:<12} {:>8.5f} {:>8.5f} {:>8.4f} {:>17.1f} {:>5.1f} {}{}\n", dtype_name(format.type),
                   rows.name, name, outcome.theirs, outcome.ours, ratio, outcome.their_rate, outcome.our_rate,
                   ratio <= kMostRatio ? "" : "WORSE", outcome.same_values ? "" : "READ DIFFERENTLY");
      }
    }
  }
  fmt::print("{} passed, {} failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ds4

int main(int argc, char** argv) { return argc == 2 ? ds4::run(argv[1]) : 2; }
