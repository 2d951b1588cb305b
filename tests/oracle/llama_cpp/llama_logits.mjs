// node llama_logits.mjs MODEL.gguf PROMPTS.json OUT_PREFIX
//
// llama.cpp's logits of every position of each token sequence of PROMPTS.json: OUT_PREFIX.N.f32, float32
// [tokens, vocabulary]. Reference mode only: F32 keys and values, no flash attention; there its results repeat to about
// 1e-6. A program of its own because the library ends the process on files that it does not like.
import fs from "node:fs";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const [modelPath, promptsPath, prefix] = process.argv.slice(2);
const prompts = JSON.parse(fs.readFileSync(promptsPath, "utf8"));
const llama = await getLlama({ gpu: false, build: "never", progressLogs: false, logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({
  contextSize: 768,
  batchSize: 256,
  threads: 2,
  flashAttention: false,
  experimentalKvCacheKeyType: "F32",
  experimentalKvCacheValueType: "F32",
});
const sequence = context.getSequence();
for (const [i, tokens] of prompts.entries()) {
  await sequence.clearHistory();
  const outputs = await sequence.controlledEvaluate(tokens.map((id) => [id, { generateNext: { logits: true } }]));
  const rows = outputs.map(({ next }) => {
    const row = new Float32Array(next.logits.size);
    for (const [id, logit] of next.logits) row[id] = logit;
    return Buffer.from(row.buffer);
  });
  fs.writeFileSync(`${prefix}.${i}.f32`, Buffer.concat(rows));
}
await llama.dispose();
