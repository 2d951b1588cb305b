#include "constrain/string_formats.h"

#include <algorithm>
#include <array>

namespace ds4 {
namespace {

#define DS4_DATE                                                                                                       \
  "\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]" \
  "))"
#define DS4_TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:Z|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define DS4_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?"
#define DS4_HOST DS4_LABEL "(?:\\." DS4_LABEL "){0,6}"
#define DS4_BYTE "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"

struct Format {
  std::string_view name;
  std::string_view pattern;
};

constexpr std::array kFormats{
    Format{"date", "^" DS4_DATE "$"},
    Format{"time", "^" DS4_TIME "$"},
    Format{"date-time", "^" DS4_DATE "T" DS4_TIME "$"},
    Format{"duration", "^P(?:\\d{1,9}W|\\d{1,9}D(?:T\\d{1,9}[HMS])?|T(?:\\d{1,9}H)?\\d{1,9}M|T\\d{1,9}S)$"},
    Format{"email", "^[A-Za-z0-9_+-]{1,32}(?:\\.[A-Za-z0-9_+-]{1,32}){0,3}@" DS4_LABEL "(?:\\." DS4_LABEL "){1,6}$"},
    Format{"hostname", "^" DS4_HOST "$"},
    Format{"ipv4", "^" DS4_BYTE "(?:\\." DS4_BYTE "){3}$"},
    Format{"uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
    Format{"uri", "^https?://" DS4_HOST "(?::[1-9]\\d{0,3})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]*)*"
                  "(?:\\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?(?:#[A-Za-z0-9._~!$&'()*+,;=:@/?-]*)?$"},
};

}  // namespace

std::string_view pattern_of_format(std::string_view format) {
  const auto* found = std::ranges::find(kFormats, format, &Format::name);
  return found == kFormats.end() ? std::string_view() : found->pattern;
}

}  // namespace ds4
