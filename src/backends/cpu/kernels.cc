#include "backends/cpu/kernels.h"

#include "backends/cpu/isa.h"
#include "base/check.h"

namespace ds4::cpu {

namespace {

const Kernels* find_kernels(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return portable_kernels();
    case Isa::kAvx2: return avx2_kernels();
    case Isa::kAvx512: return avx512_kernels();
    case Isa::kAmx: return amx_kernels();
    case Isa::kNeon: return neon_kernels();
  }
  return nullptr;
}

}  // namespace

WeightMatrix weight_rows(const TensorView& weight, int64_t first_row) {
  const int64_t n_in = weight.shape.back();
  const auto bytes = static_cast<int64_t>(row_bytes(weight.type, n_in).value());
  return {weight.type, weight.data<std::byte>() + first_row * bytes, bytes, n_in};
}

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kAmx: return "amx";
    case Isa::kNeon: return "neon";
  }
  return "?";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> available;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx, Isa::kNeon}) {
    if (find_kernels(isa) != nullptr) available.push_back(isa);
  }
  return available;
}

const Kernels& kernels_of(Isa isa) {
  const Kernels* kernels = find_kernels(isa);
  CHECK(kernels != nullptr, "this processor does not run {} code", isa_name(isa));
  return *kernels;
}

}  // namespace ds4::cpu
