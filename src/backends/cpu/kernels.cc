#include "backends/cpu/kernels.h"

#include <bit>

#include "backends/cpu/isa.h"
#include "base/check.h"
#include "gguf/dequantize.h"
#include "ops/kv_rows.h"

namespace ds4::cpu {

namespace {

const Kernels* find_kernels(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return portable_kernels();
    case Isa::kAvx2: return avx2_kernels();
    case Isa::kAvx512: return avx512_kernels();
    case Isa::kNeon: return nullptr;
  }
  return nullptr;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
    case Isa::kNeon: return "neon";
  }
  return "?";
}

std::vector<Isa> available_isas() {
  std::vector<Isa> available;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (find_kernels(isa) != nullptr) available.push_back(isa);
  }
  return available;
}

namespace {

// E4M3 as an F32 with its exponent 120 too small: exact for subnormal codes too. KV rows hold no NaN codes.
void decode_e4m3(const uint8_t* codes, float scale, int n, float* x) {
  for (int i = 0; i < n; ++i) {
    const uint32_t magnitude = static_cast<uint32_t>(codes[i] & 0x7F) << 20;
    const uint32_t sign = static_cast<uint32_t>(codes[i] & 0x80) << 24;
    x[i] = std::bit_cast<float>(magnitude | sign) * 0x1p120f * scale;
  }
}

}  // namespace

void unpack_row(const std::byte* row, const KvRowFormat& format, float* x) {
  if (format.encoding != KvEncoding::kFp8) return unpack_kv_row(row, format, x);
  const int32_t n_codes = format.width - format.n_rot;
  for (int32_t first = 0; first < n_codes; first += kFp8Group) {
    const auto scale = static_cast<uint32_t>(row[n_codes + first / kFp8Group]);
    const int n = n_codes - first < kFp8Group ? n_codes - first : kFp8Group;
    decode_e4m3(reinterpret_cast<const uint8_t*>(row) + first, std::bit_cast<float>(scale << 23), n, x + first);
  }
  const int32_t n_groups = (n_codes + kFp8Group - 1) / kFp8Group;
  dequantize_row(DType::kF16, row + n_codes + n_groups, x + n_codes, format.n_rot);
}

const Kernels& kernels_of(Isa isa) {
  const Kernels* kernels = find_kernels(isa);
  CHECK(kernels != nullptr, "this processor does not run {} code", isa_name(isa));
  return *kernels;
}

}  // namespace ds4::cpu
