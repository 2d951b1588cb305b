// node check.mjs SCRIPTED_SERVER [NAME...]: every answer and every event of cases.mjs against the official packages' types.
import { createParser } from "eventsource-parser";
import { rules } from "../lib/script.mjs";
import { ScriptedServer } from "../lib/server.mjs";
import { cases } from "./cases.mjs";
import { Schemas } from "./schemas.mjs";

const [, , binary, ...names] = process.argv;
const headersOf = (forAnthropic) => ({
  "content-type": "application/json",
  ...(forAnthropic ? { "anthropic-version": "2023-06-01" } : {}),
});

function eventsOf(text, problems) {
  const events = [];
  const parser = createParser({ onEvent: (e) => events.push(e), onError: (e) => problems.push(`${e.type}: ${e.message}`) });
  parser.feed(text);
  return events;
}

async function check(server, schemas, test) {
  const { path, method = "POST", body, raw, status = 200, type, event, named, list, forAnthropic } = test;
  const headers = headersOf(forAnthropic ?? path.startsWith("/v1/messages"));
  const problems = [];
  const validate = (kind, value, where) => {
    const problem = schemas.problem(kind, value);
    if (problem) problems.push(`${where}: ${problem}`);
  };
  const answer = await fetch(server.url + path, { method, headers, body: raw ?? (body && JSON.stringify(body)) });
  const text = await answer.text();
  if (answer.status !== status) return [`expected status ${status}, found ${answer.status} ${text.slice(0, 200)}`];
  if (!body?.stream || status !== 200) {
    const value = JSON.parse(text);
    if (!list) validate(type, value, type);
    else if (!(forAnthropic ? value.first_id : value.object === "list") || !value.data?.length) problems.push("no list");
    else value.data.forEach((item, i) => validate(type, item, `data[${i}]`));
    return problems;
  }
  const events = eventsOf(text, problems);
  if (events.length < 2) problems.push(`a stream of ${events.length} events`);
  for (const [i, { event: name, data }] of events.entries()) {
    if (data === "[DONE]" && i === events.length - 1) continue;
    const value = JSON.parse(data);
    if (named && name !== value.type) problems.push(`event ${i} is called ${name}, its type is ${value.type}`);
    if (value.type === "ping") continue; // documented, but not in the package's types
    validate(event, value, `event ${i} ${value.type ?? ""}`);
  }
  return problems;
}

const schemas = new Schemas();
const server = await ScriptedServer.start(binary, { ctx_tokens: 4096, rules });
let passed = 0;
let failed = 0;
for (const test of cases) {
  if (names.length && !names.some((name) => test.name.startsWith(name))) continue;
  const problems = await check(server, schemas, test).catch((error) => [error.message]);
  if (problems.length) failed += 1;
  else passed += 1;
  console.log(`${problems.length ? "FAILED " : "ok     "} ${test.name}${[...new Set(problems)].slice(0, 8).map((p) => `\n          ${p}`).join("")}`);
}
if (!names.length) {
  // What refuses nothing proves nothing.
  for (const type of new Set(cases.flatMap((test) => [test.type, test.event ?? test.type]))) {
    if (schemas.problem(type, {})) continue;
    failed += 1;
    console.log(`FAILED  the schema of ${type} accepts an empty object`);
  }
  for (const { type, field } of schemas.unused) {
    failed += 1;
    console.log(`FAILED  the exemption of ${type}.${field} applies to nothing`);
  }
}
await server.stop();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
