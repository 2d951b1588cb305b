#pragma once

// Elementary functions over a struct S of vector operations (generic_kernels.h). Only IEEE operations in a fixed order,
// so every instruction set gives the same bits, whatever the C library. exp is within 1.1 ulp, the others within 3.
// NaN gives NaN. Private to the kernels.

#include <cstdint>
#include <cstring>

namespace ds4::cpu {

// The first n of a vector's lanes, the others zero. Loops over any length use the same operations for their end.
template <class S>
typename S::F load_some(const float* p, int64_t n) {
  if (n >= S::kLanes) return S::load(p);
  float lanes[S::kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return S::load(lanes);
}

template <class S>
void store_some(float* p, typename S::F x, int64_t n) {
  if (n >= S::kLanes) return S::store(p, x);
  float lanes[S::kLanes];
  S::store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// x = n ln 2 + r: 2^n times a polynomial in r with |r| <= ln 2 / 2. Subnormal results are rounded once, below them
// comes zero, above the largest float infinity.
template <class S>
typename S::F exp(typename S::F x) {
  using F = typename S::F;
  const F magic = S::set1(0x1.8p23f);  // rounds to whole numbers
  x = S::min(S::set1(89.0f), S::max(S::set1(-105.0f), x));
  const F n = S::sub(S::fma(x, S::set1(0x1.715476p+0f), magic), magic);
  F r = S::fma(n, S::set1(-0x1.62ep-1f), x);
  r = S::fma(n, S::set1(-0x1.0bfbe8p-15f), r);
  F p = S::set1(0x1.6d110ap-10f);
  p = S::fma(p, r, S::set1(0x1.120b6ep-7f));
  p = S::fma(p, r, S::set1(0x1.55551ap-5f));
  p = S::fma(p, r, S::set1(0x1.5554dcp-3f));
  p = S::fma(p, r, S::set1(0.5f));
  p = S::add(S::fma(S::mul(r, r), p, r), S::set1(1.0f));
  const F half = S::sub(S::fma(n, S::set1(0.5f), magic), magic);  // 2^n itself may be no float
  return S::mul(S::mul(p, S::pow2(half)), S::pow2(S::sub(n, half)));
}

template <class S>
typename S::F sigmoid(typename S::F z) {
  const typename S::F one = S::set1(1.0f);
  return S::div(one, S::add(one, exp<S>(S::sub(S::zero(), z))));
}

// sqrt(ln(1 + e^z)), less exact below e^-87, with ln(1 + e^z) = max(z, 0) + ln(1 + e), e = e^-|z|, and ln(1 + e) = 2
// atanh(s), s = e / (2 + e).
template <class S>
typename S::F sqrt_softplus(typename S::F z) {
  using F = typename S::F;
  const F e = exp<S>(S::sub(S::zero(), S::abs(z)));
  const F s = S::div(e, S::add(S::set1(2.0f), e));
  const F t = S::mul(s, s);
  F p = S::set1(0x1.a9be66p-4f);
  p = S::fma(p, t, S::set1(0x1.65ac7cp-4f));
  p = S::fma(p, t, S::set1(0x1.c7fb48p-4f));
  p = S::fma(p, t, S::set1(0x1.248f58p-3f));
  p = S::fma(p, t, S::set1(0x1.9999a0p-3f));
  p = S::fma(p, t, S::set1(0x1.555556p-2f));
  const F log = S::fma(S::mul(s, t), p, s);
  return S::sqrt(S::add(S::max(S::zero(), z), S::add(log, log)));
}

}  // namespace ds4::cpu
