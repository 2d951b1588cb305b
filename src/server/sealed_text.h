#pragma once

// Texts that clients keep for us and must neither read nor change: AES-256-GCM under a key that is made when the sealer
// is, so that a sealed text means nothing to another process. Immutable, any thread.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ds4 {

class TextSealer {
 public:
  TextSealer();

  // Printable ASCII without quotes; another one every time. Empty if the cipher fails.
  std::string seal(std::string_view text) const;
  // Nothing unless it was sealed here and was not changed.
  std::optional<std::string> open(std::string_view sealed) const;

 private:
  std::array<uint8_t, 32> key_{};
};

}  // namespace ds4
