# cmake -DSOURCE=... -DVERSION=... -DOUT=... -P version.cmake: writes kVersion and kCommit, only when they changed.
execute_process(COMMAND git describe --always --dirty --abbrev=10 --exclude=* WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${OUT} CONTENT [[
#include "tools/bench/version.h"

namespace ds4 {

const char* const kVersion = "@VERSION@";
const char* const kCommit = "@commit@";

}  // namespace ds4
]] @ONLY)
