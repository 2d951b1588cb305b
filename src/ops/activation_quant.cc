#include "ops/activation_quant.h"

#include <algorithm>
#include <cmath>

namespace ds4 {

namespace {

// The reciprocal of a scale, or 0 where it overflows: a block so small, or zero, has only zero codes.
float finite_or_zero(float reciprocal) { return std::isfinite(reciprocal) ? reciprocal : 0.0f; }

}  // namespace

ActivationForm activation_form(DType weight_type, NumericProfile profile) {
  if (profile == NumericProfile::kExact) return ActivationForm::kReal;
  switch (weight_type) {
    case DType::kQ8_0:
    case DType::kMXFP4: return ActivationForm::kQ8_0;
    case DType::kQ2_K:
    case DType::kQ4_K:
    case DType::kIQ2_XXS: return ActivationForm::kQ8_K;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI32:
    case DType::kU8: return ActivationForm::kReal;
  }
  return ActivationForm::kReal;
}

void quantize_q8_0(const float* x, int64_t n, Q8_0Activation* out) {
  for (int64_t block = 0; block < n / 32; ++block) {
    const float* values = x + block * 32;
    float amax = 0.0f;
    for (int i = 0; i < 32; ++i) amax = std::max(amax, std::fabs(values[i]));
    const float scale = amax / 127.0f;
    const float inverse = finite_or_zero(1.0f / scale);
    out[block].scale = scale;
    for (int i = 0; i < 32; ++i) {
      out[block].codes[i] = static_cast<int8_t>(std::clamp(std::nearbyint(values[i] * inverse), -128.0f, 127.0f));
    }
  }
}

void quantize_q8_k(const float* x, int64_t n, Q8_KActivation* out) {
  for (int64_t block = 0; block < n / 256; ++block) {
    const float* values = x + block * 256;
    Q8_KActivation& q = out[block];
    q = {};
    float extreme = 0.0f;  // of largest magnitude, with its sign; the first wins a tie
    for (int i = 0; i < 256; ++i) {
      if (std::fabs(values[i]) > std::fabs(extreme)) extreme = values[i];
    }
    const float inverse = finite_or_zero(-127.0f / extreme);
    if (inverse == 0.0f) continue;
    q.scale = 1.0f / inverse;
    for (int i = 0; i < 256; ++i) {
      q.codes[i] = static_cast<int8_t>(std::clamp(std::nearbyint(values[i] * inverse), -128.0f, 127.0f));
      q.sums[i / 16] = static_cast<int16_t>(q.sums[i / 16] + q.codes[i]);
    }
  }
}

void ActivationRow::set(const float* x, int64_t n, ActivationForm form) {
  form_ = form;
  x_ = x;
  if (form == ActivationForm::kQ8_0) {
    q8_0_.resize(static_cast<size_t>(n / 32));
    quantize_q8_0(x, n, q8_0_.data());
  }
  if (form == ActivationForm::kQ8_K) {
    q8_k_.resize(static_cast<size_t>(n / 256));
    quantize_q8_k(x, n, q8_k_.data());
  }
}

}  // namespace ds4
