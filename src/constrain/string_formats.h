#pragma once

// Values of the keyword "format" that can be enforced, as regular expressions. Every text that one of them matches has
// the format; some unusual texts with the format do not match. Pure function, any thread.

#include <string_view>

namespace ds4 {

// Empty for a format that is not supported.
std::string_view pattern_of_format(std::string_view format);

}  // namespace ds4
