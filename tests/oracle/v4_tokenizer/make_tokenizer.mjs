// make_tokenizer.mjs V3_TOKENIZER V4_TOKENIZER: writes DeepSeek-V4's tokenizer.json. Base vocabulary, merges and
// pre-tokeniser are those of V3; the added tokens are those of tests/vectors/tokenizer/v4_added_tokens.json.
import { readFileSync, writeFileSync } from 'node:fs';

const [v3Path, v4Path] = process.argv.slice(2);
const tokenizer = JSON.parse(readFileSync(v3Path, 'utf8'));
const table = new URL('../../vectors/tokenizer/v4_added_tokens.json', import.meta.url);
const special = new Set(tokenizer.added_tokens.filter((token) => token.special).map((token) => token.id));
tokenizer.added_tokens = JSON.parse(readFileSync(table, 'utf8')).tokens.map(({ id, content }) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: special.has(id),
}));
writeFileSync(v4Path, JSON.stringify(tokenizer));
