#!/usr/bin/env bash
# Installs what is missing of the Debian 12 packages that the project needs, and nothing else.
#
#   scripts/install_packages.sh            what ./run.sh needs: compiler, build tools, libraries
#   scripts/install_packages.sh --tests    also what ./test.sh needs
#   scripts/install_packages.sh --checks   also what .ci/run needs: clang 19 and the checkers
#
# When nothing is missing it asks no server and takes a few milliseconds.
set -euo pipefail

# A program counts as installed when the command exists, wherever it came from (command:package).
programs=(g++:g++ cmake:cmake ninja:ninja-build ccache:ccache pkg-config:pkg-config)
libraries=(libfmt-dev nlohmann-json3-dev libcli11-dev libboost-dev libssl-dev libedit-dev libxxhash-dev)
for option in "$@"; do
  case $option in
    --tests) ;;
    --checks)
      programs+=(clang++-19:clang-19 clang-format-19:clang-format-19 clang-tidy-19:clang-tidy-19 codespell:codespell
                 llvm-symbolizer-19:llvm-19 python3:python3)
      libraries+=(libclang-rt-19-dev) ;;
    *) echo "install_packages.sh: unknown option '$option'; accepted: --tests, --checks" >&2; exit 2 ;;
  esac
  programs+=(npm:npm chromium:chromium ip:iproute2)
  libraries+=(ca-certificates libgtest-dev libgmock-dev libpcre2-dev)
done

missing=()
for entry in "${programs[@]}"; do
  command -v "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
if ! command -v dpkg-query >/dev/null; then
  echo "Not a Debian system. Needed, by their Debian 12 names: ${missing[*]-} ${libraries[*]}" >&2
  exit 0
fi
for package in "${libraries[@]}"; do
  [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == "install ok installed" ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "Run as root: apt-get install ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }
echo "Installing packages: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt update && apt install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
