# cmake -D SOURCE=DIR -D OUTPUT=FILE -P embed_page.cmake: makes one self-contained page of DIR/index.html, style.css and
# the JavaScript modules, and FILE, a C++ source with the page as ds4::kWebPage
# (src/server/web_page.h). The modules become one script: each comes after those it imports, the imports
# and the word `export` go. So names at the top of a module must differ between modules.
set(MODULES dom markdown conversation storage client generation message_view sidebar settings app)

# The base64 form of a hash in hexadecimal digits.
function(hex_to_base64 hex result)
  set(alphabet ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/)
  string(LENGTH "${hex}" n_digits)
  set(text "")
  # Three hexadecimal digits are 12 bits: two characters.
  math(EXPR last "${n_digits} - 1")
  foreach(at RANGE 0 ${last} 3)
    string(SUBSTRING "${hex}00" ${at} 3 digits)
    math(EXPR high "0x${digits} >> 6")
    math(EXPR low "0x${digits} & 63")
    string(SUBSTRING ${alphabet} ${high} 1 first)
    string(SUBSTRING ${alphabet} ${low} 1 second)
    string(APPEND text ${first}${second})
  endforeach()
  # SHA-256 has 32 bytes: 43 characters and one for padding.
  string(SUBSTRING "${text}" 0 43 text)
  set(${result} "${text}=" PARENT_SCOPE)
endfunction()

file(READ ${SOURCE}/index.html page)
file(READ ${SOURCE}/style.css style)
set(script "")
foreach(module IN LISTS MODULES)
  file(READ ${SOURCE}/${module}.js text)
  string(REGEX REPLACE "(^|\n)import {[^}]*} from '[^']*';" "" text "${text}")
  string(REPLACE "\nexport " "\n" text "${text}")
  string(APPEND script "${text}")
endforeach()
string(SHA256 style_hash "${style}")
string(SHA256 script_hash "${script}")
hex_to_base64(${style_hash} style_hash)
hex_to_base64(${script_hash} script_hash)
string(REPLACE "@STYLE@" "${style}" page "${page}")
string(REPLACE "@SCRIPT@" "${script}" page "${page}")
string(SHA256 page_hash "${page}")
string(SUBSTRING ${page_hash} 0 32 page_hash)

file(WRITE ${OUTPUT}.html "${page}")
file(READ ${OUTPUT}.html bytes HEX)
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${bytes}")
file(WRITE ${OUTPUT} "// Made by cmake/embed_page.cmake.
#include \"server/web_page.h\"

namespace ds4 {
namespace {

constexpr char kBytes[] = {
${bytes}};

}  // namespace

const WebPage kWebPage{
    .html = {kBytes, sizeof(kBytes)},
    .etag = \"\\\"${page_hash}\\\"\",
    .script_hash = \"'sha256-${script_hash}'\",
    .style_hash = \"'sha256-${style_hash}'\",
};

}  // namespace ds4
")
