// node agents.mjs SCRIPTED_SERVER RESULTS.json [NAME/API...]: the agents, every scenario, each with a home directory of its
// own. What they print, their exit codes and every request are checked: an agent that hides an error by asking again fails.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { agents } from "./agents_programs.mjs";
import { RecordingProxy } from "./lib/proxy.mjs";
import { Scenarios } from "./lib/scenarios.mjs";
import { answers, dsmlCall, prompts, rules, tooLong } from "./lib/script.mjs";
import { ScriptedServer } from "./lib/server.mjs";

const kContextTokens = 65_536;
const kRunTimeoutMs = 110_000;
const kRunTool = "Run echo tool-ok, please.";
const kToolAnswer = "The command printed its word.";
const [, , binary, resultFile, ...wanted] = process.argv;

// Some agents look for their files beside the temporary directory and refuse to work inside it.
function makeHome() {
  const cache = path.join(os.homedir(), ".cache");
  fs.mkdirSync(cache, { recursive: true });
  const home = fs.mkdtempSync(path.join(cache, "ds4-clients-"));
  fs.mkdirSync(path.join(home, "work"));
  return home;
}

// Runs to the end, or until `interrupt` resolves: then the agent is asked to stop as by Ctrl+C.
async function run(agent, home, url, [program, ...args], interrupt) {
  const env = { PATH: process.env.PATH, TERM: "xterm", LANG: "C.UTF-8", HOME: home, ...agent.environment?.(url) };
  const child = spawn(program, args, { cwd: path.join(home, "work"), env, stdio: ["ignore", "pipe", "pipe"] });
  const result = { output: "", errors: "" };
  child.stdout.on("data", (data) => (result.output += data));
  child.stderr.on("data", (data) => (result.errors += data));
  const timeout = setTimeout(() => child.kill("SIGKILL"), kRunTimeoutMs);
  interrupt?.then(() => child.kill("SIGINT"));
  [result.code, result.signal] = await new Promise((resolve) => child.once("exit", (code, signal) => resolve([code, signal])));
  clearTimeout(timeout);
  if (process.env.VERBOSE) console.log(result);
  return result;
}

function expectAnswer(agent, result, answer) {
  assert.equal(result.code, 0, `exit code ${result.code}: ${result.errors.slice(-300)}${result.output.slice(-300)}`);
  assert.equal(agent.answerOf(result.output), answer, `printed ${result.output.slice(-300)}`);
}

async function runAgent(scenarios, agent) {
  const home = makeHome();
  const { name: tool, parameters } = agent.tool;
  const agentRules = [
    { when: { system: "title generator" }, text: "A title" },
    ...rules,
    { when: { user: kRunTool, offers: tool }, think: "A command.", text: dsmlCall(tool, parameters) },
    { when: { tool: "tool-ok" }, think: "It did.", text: kToolAnswer },
  ];
  const server = await ScriptedServer.start(binary, { ctx_tokens: kContextTokens, step_delay_ms: 1, rules: agentRules });
  const proxy = await RecordingProxy.start(server.url);
  scenarios.use(server, proxy);
  agent.setUp(home, proxy.url, kContextTokens);
  const extra = agent.extraRequests ?? 0;
  const ask = (prompt, options) => run(agent, home, proxy.url, agent.command(prompt, options));

  await scenarios.run(agent, "one prompt", { requests: 1 + extra }, async () => {
    expectAnswer(agent, await ask(prompts.hello), answers.hello);
    await server.until(1 + extra);
  });
  await scenarios.run(agent, "tool round trip", { requests: 2 + extra }, async () => {
    expectAnswer(agent, await ask(kRunTool), kToolAnswer);
    await server.until(2 + extra);
  });
  await scenarios.run(agent, "two turns", { requests: 2 + extra }, async () => {
    expectAnswer(agent, await ask(prompts.remember), answers.remember);
    expectAnswer(agent, await ask(prompts.recall, { again: true }), answers.recall);
    await server.until(2 + extra);
    scenarios.checkReuse();
  });
  await scenarios.run(agent, "cancellation", { requests: 1 + extra }, async () => {
    // The answer has begun when its stream has words of it; requests beside it are sent when they like.
    const hasStarted = () => proxy.generating().length > extra && proxy.generating().some((r) => r.answer.includes("three"));
    const started = (async () => {
      while (!hasStarted()) await new Promise((resolve) => setTimeout(resolve, 20));
    })();
    await run(agent, home, proxy.url, agent.command(prompts.endless), started);
    await server.until(1 + extra);
    assert(server.reports.some((r) => r.finished === "cancelled"), JSON.stringify(server.reports));
  });
  proxy.stop();
  await server.stop();
  await runOverflow(scenarios, agent, home);
  fs.rmSync(home, { recursive: true, force: true });
}

// The prompt does not fit: the agent must say so, and must not ask again and again.
async function runOverflow(scenarios, agent, home) {
  const server = await ScriptedServer.start(binary, { ctx_tokens: agent.overflow?.context ?? 16_384, rules });
  const proxy = await RecordingProxy.start(server.url);
  scenarios.use(server, proxy);
  agent.setUp(home, proxy.url, kContextTokens);
  const statuses = [agent.api === "responses" ? 200 : 400]; // there the error is an event of the stream
  await scenarios.run(agent, "context overflow", agent.overflow ?? { requests: 1, statuses }, async () => {
    const result = await run(agent, home, proxy.url, agent.command(tooLong));
    const said = result.output + result.errors;
    assert.match(said, agent.overflow?.says ?? /context|too long/i, said.slice(-600));
  });
  proxy.stop();
  await server.stop();
}

const scenarios = new Scenarios();
for (const agent of agents) {
  if (wanted.length && !wanted.includes(`${agent.name}/${agent.api}`)) continue;
  await runAgent(scenarios, agent);
}
scenarios.save(resultFile);
console.log(`${scenarios.passed} passed, ${scenarios.failed} failed`);
process.exitCode = scenarios.failed ? 1 : 0;
