#!/usr/bin/env bash
# newcomer_check.sh [run|test|all]: does one command suffice on a machine that has nothing?
#
# Makes a bare Debian 12 root (debootstrap), puts a clean clone of HEAD into it, and inside runs ./run.sh (the server must
# start and answer) or ./test.sh; each in a fresh root. Needs root rights, debootstrap and 4 GiB in TMPDIR. Uses this
# machine's package sources and certificates. Nothing outside the temporary directory is changed.
set -euo pipefail
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
what=${1:-all}
work=$(mktemp -d)
root=$work/root
bare=$work/bare
port=18734

remove_root() { umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"; }
trap 'remove_root; rm -rf --one-file-system "$work"' EXIT

make_bare_root() {
  local mirror
  mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
    sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]+).*/\3/p' | head -n 1 || true)
  debootstrap --variant=minbase bookworm "$bare" "$mirror" >"$work/debootstrap.log" || { cat "$work/debootstrap.log"; exit 1; }
  rm -f "$bare/etc/apt/sources.list"
  cp -r /etc/apt/sources.list /etc/apt/sources.list.d "$bare/etc/apt/" 2>/dev/null || true
  cp /etc/resolv.conf /etc/hosts "$bare/etc/"
}

make_root() {
  remove_root
  cp -a "$bare" "$root"
  mount --bind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  git clone --quiet "$source_dir" "$root/src/ds4"
  # Where a proxy signs https with a certificate of its own, npm in the root must trust it too.
  cp /etc/ssl/certs/ca-certificates.crt "$root/src/certificates.crt" 2>/dev/null || touch "$root/src/certificates.crt"
}

# Replaces the calling subshell, so that its process id is the command's.
inside() {
  exec chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DS4_PORT="$port" \
    NODE_EXTRA_CA_CERTS=/src/certificates.crt npm_config_cafile=/src/certificates.crt "$1"
}

check_run() {
  local start=$SECONDS server answer
  make_root
  inside /src/ds4/run.sh &
  server=$!
  # Packages and the first build take minutes.
  until curl --silent --fail http://127.0.0.1:$port/health >/dev/null; do
    if ! kill -0 "$server" 2>/dev/null || ((SECONDS - start > 1800)); then
      echo "run.sh: no server after $((SECONDS - start)) s"
      return 1
    fi
    sleep 2
  done
  answer=$(curl --silent --fail http://127.0.0.1:$port/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"temperature": 0, "messages": [{"role": "user", "content": "Which city is the capital of France?"}]}') || true
  kill "$server"
  wait "$server" || true
  [[ $answer == *Paris* ]] || { echo "run.sh: unexpected answer: $answer"; return 1; }
  echo "run.sh: from nothing to the first answer in $((SECONDS - start)) s"
}

check_test() {
  local start=$SECONDS
  make_root
  (inside /src/ds4/test.sh)
  echo "test.sh: passed from nothing in $((SECONDS - start)) s"
}

make_bare_root
[[ $what == test ]] || check_run
[[ $what == run ]] || check_test
