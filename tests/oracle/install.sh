#!/usr/bin/env bash
# Fetches the independent programs that package-lock.json pins into tests/oracle/node_modules, unless they are there.
# Linux on x86-64 only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# npm ci refuses the lock file because some optional packages for other systems are not published; npm install uses the
# same versions and checks the same hashes.
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  npm install --no-save --ignore-scripts --omit=optional --loglevel=error >/dev/null
  # This variant uses AMX, where llama.cpp aborts on DeepSeek-V4 graphs; the library then picks the next best one.
  rm -f node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-cpu-sapphirerapids.so
  touch node_modules/.package-lock.json
fi
