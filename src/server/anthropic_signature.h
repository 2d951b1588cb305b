#pragma once

// The signature of a thinking block: opaque to clients, which return it with the block. It holds a hash of the text,
// and the text itself when the client wanted to see none (display "omitted"), so that the next prompt is the same all
// the same. It is no secret and no seal: a client may write any reasoning into its history, signed or not; the hash
// finds damage. The form does not depend on the process, so signatures outlive restarts. Pure functions, any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ds4 {

enum class SignatureKind : uint8_t { kHash, kText };

// Base64. Precondition: well-formed UTF-8.
std::string sign_thinking(std::string_view text, SignatureKind kind);

// Made by sign_thinking() for exactly this text.
bool signs_thinking(std::string_view signature, std::string_view text);

// The text of a SignatureKind::kText that is whole; nothing for every other string.
std::optional<std::string> signed_thinking(std::string_view signature);

}  // namespace ds4
