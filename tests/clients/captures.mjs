// node captures.mjs SCRIPTED_SERVER: requests that clients once sent (../shared/clients beside the repository) are
// accepted, headers and all, and answered without an error.
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import { rules } from "./lib/script.mjs";
import { ScriptedServer } from "./lib/server.mjs";

const folder = fileURLToPath(new URL("../../../shared/clients/", import.meta.url));
const kUnsent = ["host", "connection", "content-length", "transfer-encoding"];
if (!fs.existsSync(folder)) {
  console.log("../shared/clients is not here: no captured requests to send.\n0 passed, 0 failed, 1 skipped");
  process.exit(0);
}

// It names an item that the server which answered then had stored; no other server can know it.
const kForeign = { "ai-sdk-openai-responses.json 2": /^status 400 .*no item '\w+' is stored here/ };

async function send(server, { method, url, headers = {}, body }) {
  const kept = Object.entries(headers).filter(([name]) => !kUnsent.includes(name.toLowerCase()));
  const answer = await fetch(server.url + url, { method, headers: Object.fromEntries(kept), body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`status ${answer.status} ${text.slice(0, 300)}`);
  // An error inside a stream comes with status 200.
  const failure = /^event: (error|response\.failed)$[^]*/m.exec(text);
  if (failure) throw new Error(failure[0].slice(0, 300));
}

const server = await ScriptedServer.start(process.argv[2], { ctx_tokens: 65_536, rules });
let passed = 0;
let failed = 0;
for (const name of fs.readdirSync(folder).filter((f) => f.endsWith(".json")).sort()) {
  for (const [i, request] of JSON.parse(fs.readFileSync(folder + name)).entries()) {
    let error = await send(server, request).then(() => null, (e) => e);
    const refusal = kForeign[`${name} ${i + 1}`];
    if (refusal) error = refusal.test(error?.message) ? null : new Error(`expected ${refusal}, found ${error?.message}`);
    if (error) failed += 1;
    else passed += 1;
    console.log(`${error ? "FAILED " : "ok     "} ${name} ${i + 1}: ${request.method} ${request.url}${error ? `: ${error.message}` : ""}`);
  }
}
await server.stop();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
