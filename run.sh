#!/usr/bin/env bash
# ./run.sh               installs what is missing, builds, and starts the server on the embedded model
# ./run.sh chat          the same, but opens the prompt loop in this terminal
# ./run.sh ARGUMENT...   the same, but runs ds4 with these arguments (./run.sh --help lists them)
# DS4_PORT chooses the server's port (8000).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$root/scripts/install_packages.sh"
"$root/scripts/build.sh" release
bin=$root/build/release/bin

if (($#)); then
  [[ $* == chat ]] && shift
  exec "$bin/ds4" "$@"
fi
port=${DS4_PORT:-8000}
cat >&2 <<TEXT

Starting ds4-server; stop it with Ctrl-C. Talk to it from another terminal:

  curl -N http://127.0.0.1:$port/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "ds4-mini", "stream": true, "messages": [{"role": "user", "content": "What is the capital of France?"}]}'

or open http://127.0.0.1:$port/ in a browser, or give any OpenAI client the base URL http://127.0.0.1:$port/v1 and any API key.

TEXT
exec "$bin/ds4-server" --port "$port"
