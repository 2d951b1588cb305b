#!/usr/bin/env bash
# ./test.sh              installs what is missing, builds, runs all tests, the comparisons with independent programs,
#                        the client libraries against the server, and the web page in a browser
# ./test.sh ARGUMENT...  only the unit tests, with these arguments for ctest (./test.sh -R Rope)
# Ends with "N passed, N failed"; the exit code is 0 only when nothing failed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$root/scripts/install_packages.sh" --tests
"$root/scripts/build.sh" dev
build=$root/build/dev

status=0
ctest --test-dir "$build" --parallel "$(nproc)" --output-on-failure "$@" | tee "$build/ctest.log" || status=1
: >"$build/oracle.log"
: >"$build/clients.log"
: >"$build/web.log"
if (($# == 0)); then
  "$root/tests/oracle/run.sh" "$build/bin" | tee "$build/oracle.log" || status=1
  "$root/tests/clients/run.sh" "$build/tests/scripted_server" | tee "$build/clients.log" || status=1
  "$root/tests/web/run.sh" "$build/bin" | tee "$build/web.log" || status=1
fi

# "97% tests passed, 3 tests failed out of 100" and "27 passed, 0 failed" become one line.
sed -nE 's/^[0-9]+% tests passed, ([0-9]+) tests failed out of ([0-9]+)$/\1 \2/p' "$build/ctest.log" |
  { read -r failed total && echo "$((total - failed)) $failed"; } >"$build/counts" || status=1
for log in oracle clients web; do
  sed -nE '$s/^([0-9]+) passed, ([0-9]+) failed.*/\1 \2/p' "$build/$log.log" >>"$build/counts"
done
awk '{ passed += $1; failed += $2 } END { print passed + 0 " passed, " failed + 0 " failed" }' "$build/counts"
exit "$status"
