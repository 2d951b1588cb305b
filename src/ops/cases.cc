#include "ops/cases.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/case_builder.h"

namespace ds4 {

const TensorView& OpViews::operator[](std::string_view name) const {
  const auto found = views_.find(name);
  CHECK(found != views_.end(), "the case has no array {}", name);
  return found->second.view;
}

BatchView OpViews::batch() const {
  const TensorView& positions = (*this)["positions"];
  return {static_cast<int32_t>(positions.shape[0]), positions, positions, spans_};  // KV ops do not look at tokens
}

OpViews OpViews::rows(int32_t first, int32_t n) const {
  OpViews part;
  for (const auto& [name, entry] : views_) {
    part.views_[name] = {entry.per_row ? entry.view.rows(first, n) : entry.view, entry.per_row};
  }
  for (const SequenceSpan& span : spans_) {
    if (first < span.first_row || first >= span.first_row + span.n_rows) continue;
    part.spans_.push_back({span.slot, 0, n, span.first_position + first - span.first_row});
  }
  return part;
}

const OpArray& OpData::array(std::string_view name) const {
  const auto found = std::ranges::find(arrays, name, &OpArray::name);
  CHECK(found != arrays.end(), "the case has no array {}", name);
  return *found;
}

const float* OpData::f32(std::string_view name) const {
  return reinterpret_cast<const float*>(array(name).bytes.data());
}

const int32_t* OpData::i32(std::string_view name) const {
  return reinterpret_cast<const int32_t*>(array(name).bytes.data());
}

std::vector<OpCase> op_cases() {
  std::vector<OpCase> cases;
  add_stream_cases(cases);
  add_matmul_cases(cases);
  add_expert_cases(cases);
  add_row_cases(cases);
  add_kv_cases(cases);
  return cases;
}

Comparison within(Bound bound) {
  return [bound = std::move(bound)](const OpData& data, std::span<const std::byte> expected,
                                    std::span<const std::byte> actual) -> std::string {
    for (size_t i = 0; i < expected.size() / sizeof(float); ++i) {
      float want = 0;
      float got = 0;
      std::memcpy(&want, expected.data() + i * sizeof(float), sizeof(float));
      std::memcpy(&got, actual.data() + i * sizeof(float), sizeof(float));
      const double error = std::fabs(static_cast<double>(got) - static_cast<double>(want));
      const double allowed = bound(data, static_cast<int64_t>(i));
      if (!(error <= allowed)) {
        return fmt::format("element {}: {:.9g} instead of {:.9g}, off by {:.3g} where {:.3g} is allowed", i, got, want,
                           error, allowed);
      }
    }
    return {};
  };
}

Comparison within(std::vector<double> bounds) {
  return within([bounds = std::move(bounds)](const OpData&, int64_t i) { return bounds[static_cast<size_t>(i)]; });
}

std::string compare_bytes(const OpArray& array, std::span<const std::byte> expected,
                          std::span<const std::byte> actual) {
  const auto [want, got] = std::ranges::mismatch(expected, actual);
  if (want == expected.end()) return {};
  const auto offset = static_cast<size_t>(want - expected.begin());
  const size_t block = dtype_info(array.type).block_bytes;
  const size_t element = offset / block;
  if (array.type != DType::kF32) {
    return fmt::format("byte {} of element {}: {:#x} instead of {:#x}", offset % block, element,
                       static_cast<unsigned>(*got), static_cast<unsigned>(*want));
  }
  float values[2];
  std::memcpy(&values[0], actual.data() + element * block, sizeof(float));
  std::memcpy(&values[1], expected.data() + element * block, sizeof(float));
  return fmt::format("element {}: {:.9g} instead of {:.9g}", element, values[0], values[1]);
}

}  // namespace ds4
