// node run.mjs BIN_DIR [SHAPE...]
//
// Compares our logits with llama.cpp's on F32 files that ds4-gguf synthesises. Every position of every prompt must agree
// within 2e-4 of the logit rms, with the same best token. `prompts` in a shape file lists the prompt lengths.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

const kRelativeTolerance = 2e-4;
const here = import.meta.dirname;
const [binDir, ...only] = [path.resolve(process.argv[2]), ...process.argv.slice(3)];
const work = fs.mkdtempSync(path.join(os.tmpdir(), "ds4-llama-"));
process.on("exit", () => fs.rmSync(work, { recursive: true, force: true }));

const run = (program, ...args) => execFileSync(program, args, { stdio: ["ignore", "ignore", "inherit"] });
const file = (...parts) => path.join(work, parts.join("."));
const readFloats = (name) => new Float32Array(new Uint8Array(fs.readFileSync(name)).buffer);
const argmax = (row) => row.reduce((best, x, i) => (x > row[best] ? i : best), 0);

// A linear congruential generator: the same tokens on every machine, different ones for every prompt.
function makePrompt(length, vocab) {
  let state = length;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * vocab);
  });
}

function compare(ours, theirs, vocab) {
  if (ours.length !== theirs.length) throw new Error(`${ours.length} logits, expected ${theirs.length}`);
  let worst = 0, squares = 0, sameBest = 0;
  for (let i = 0; i < ours.length; ++i) {
    const difference = Math.abs(ours[i] - theirs[i]);
    if (!(difference <= worst)) worst = difference;  // a NaN stays
    squares += theirs[i] ** 2;
  }
  const positions = ours.length / vocab;
  for (let p = 0; p < positions; ++p) {
    const row = (logits) => logits.subarray(p * vocab, (p + 1) * vocab);
    sameBest += argmax(row(ours)) === argmax(row(theirs));
  }
  const relative = worst / Math.sqrt(squares / ours.length);
  return { relative, sameBest, positions, ok: relative <= kRelativeTolerance && sameBest === positions };
}

const counts = { passed: 0, failed: 0 };
console.log("shape      tokens   max difference / rms   same best token");
for (const name of fs.readdirSync(path.join(here, "shapes")).filter((n) => !only.length || only.includes(path.parse(n).name))) {
  const shapePath = path.join(here, "shapes", name);
  const { vocab, prompts: lengths } = JSON.parse(fs.readFileSync(shapePath, "utf8"));
  const prompts = lengths.map((length) => makePrompt(length, vocab));
  fs.writeFileSync(file("prompts.json"), JSON.stringify(prompts));
  run(path.join(binDir, "ds4-gguf"), "synth", shapePath, file("model.gguf"));
  run(process.execPath, path.join(here, "llama_logits.mjs"), file("model.gguf"), file("prompts.json"), file("llama"));
  for (const [i, tokens] of prompts.entries()) {
    fs.writeFileSync(file("ids.json"), JSON.stringify(tokens));
    fs.writeFileSync(file("positions.json"), JSON.stringify(tokens.map((_, p) => p)));
    run(path.join(binDir, "ds4"), "-m", file("model.gguf"), "--dump-logits", file("ours.f32"), "--token-ids", file("ids.json"),
        "--positions", file("positions.json"), "--profile", "exact");
    const result = compare(readFloats(file("ours.f32")), readFloats(file("llama", i, "f32")), vocab);
    counts[result.ok ? "passed" : "failed"] += 1;
    console.log(path.parse(name).name.padEnd(10), String(tokens.length).padStart(6), result.relative.toExponential(2).padStart(22),
                `${result.sameBest}/${result.positions}`.padStart(17), result.ok ? "" : "FAILED");
  }
}
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed || !counts.passed ? 1 : 0;
