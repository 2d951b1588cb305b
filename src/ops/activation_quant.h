#pragma once

// Activations as the canonical profile sees them against quantised weights, and which weights ask for which form.
//   Q8_0 form  per 32 values: scale max|x| / 127 in F32, codes rounded half to even
//   Q8_K form  per 256 values: scale from the value of largest magnitude, codes, and sums of 16 codes
// Source: docs/numerics.md 3.7. Shared by the reference and the CPU backend. Pure functions, any thread.

#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "ops/kv_view.h"

namespace ds4 {

enum class ActivationForm : uint8_t { kReal, kQ8_0, kQ8_K };

ActivationForm activation_form(DType weight_type, NumericProfile profile);

struct Q8_0Activation {
  float scale;
  int8_t codes[32];
};

struct Q8_KActivation {
  float scale;
  int8_t codes[256];
  int16_t sums[16];  // of 16 consecutive codes
};

void quantize_q8_0(const float* x, int64_t n, Q8_0Activation* out);  // n a multiple of 32
void quantize_q8_k(const float* x, int64_t n, Q8_KActivation* out);  // n a multiple of 256

// A row of activations in the form a weight type wants. Refers to x; set() reuses the storage.
class ActivationRow {
 public:
  void set(const float* x, int64_t n, ActivationForm form);
  ActivationForm form() const { return form_; }
  const float* real() const { return x_; }
  const Q8_0Activation* q8_0() const { return q8_0_.data(); }
  const Q8_KActivation* q8_k() const { return q8_k_.data(); }

 private:
  ActivationForm form_ = ActivationForm::kReal;
  const float* x_ = nullptr;
  std::vector<Q8_0Activation> q8_0_;
  std::vector<Q8_KActivation> q8_k_;
};

}  // namespace ds4
