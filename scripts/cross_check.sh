#!/usr/bin/env bash
# Compiles the CPU backend for 64-bit ARM and checks its kernels under qemu against the portable ones.
#
#   scripts/cross_check.sh             skips (status 0) when the cross compiler or qemu is missing
#   scripts/cross_check.sh --install   installs them first (Debian: g++-aarch64-linux-gnu, qemu-user)
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
compiler=aarch64-linux-gnu-g++
emulator=qemu-aarch64

case ${1-} in
  "") ;;
  --install)
    if ! command -v "$compiler" "$emulator" >/dev/null; then
      apt-get -qq update
      DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends \
        g++-aarch64-linux-gnu qemu-user >/dev/null
    fi ;;
  *) echo "cross_check.sh: unknown option '$1'; accepted: --install" >&2; exit 2 ;;
esac
for program in "$compiler" "$emulator"; do
  command -v "$program" >/dev/null || { echo "cross_check: skipped, no $program" >&2; exit 0; }
done

out=build/cross
mkdir -p "$out/include"
# Only fmt is needed beside the standard library, and only its headers, which are the same for every processor.
ln -sfn "$(dirname "$(echo '#include <fmt/format.h>' | g++ -M -x c++ - | grep -o '[^ ]*/fmt/format.h')")" "$out/include/fmt"
# In files, so that the commands below stay short.
{
  find src/base src/gguf src/ops src/backends tests/cross -name '*.cc'
  echo tests/ops/multiply_data.cc tests/ops/op_runner.cc | tr ' ' '\n'
} | sort >"$out/sources"

compile() {
  local source=$1 object=$2/${1//\//_}.o flags=()
  [[ $source != */isa_neon.cc ]] || flags=(-march=armv8.2-a+dotprod)
  $(command -v ccache || true) "$compiler" -std=c++20 -O2 -ffp-contract=off -Wall -Wextra -Werror \
    -Wno-missing-field-initializers -DFMT_HEADER_ONLY -isystem "$2/include" -Isrc -Itests "${flags[@]}" \
    -c "$source" -o "$object"
}
export -f compile
export compiler CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1
rm -f "$out"/*.o
xargs -a "$out/sources" -P "$(nproc)" -I SOURCE bash -c 'compile "$@"' _ SOURCE "$out"
"$compiler" -static "$out"/*.o -o "$out/cross_check" -lpthread
"$emulator" "$out/cross_check"
