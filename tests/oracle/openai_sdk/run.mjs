// node run.mjs BIN_DIR
//
// The official openai package against ds4-server on the embedded model: what a client program sees. The questions belong
// to families that the model was trained on, so that greedy answers are known (models/README.md).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import OpenAI from "openai";

const kStartTimeoutMs = 60_000;
const binDir = path.resolve(process.argv[2]);
const question = { role: "user", content: "Which city is the capital of France?" };
const weatherTool = {
  type: "function",
  function: {
    name: "get_weather",
    description: "Get the current weather for a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string", description: "City name" } },
      required: ["city"],
    },
  },
};

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function startServer(port) {
  // Another working directory, as any user may have: the embedded model must be found all the same.
  const server = spawn(path.join(binDir, "ds4-server"), ["--port", String(port)], { cwd: os.tmpdir(), stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  server.stderr.on("data", (text) => (log += text));
  const deadline = Date.now() + kStartTimeoutMs;
  while (server.exitCode === null && Date.now() < deadline) {
    const health = await fetch(`http://127.0.0.1:${port}/health`).catch(() => null);
    if (health?.ok) return server;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  server.kill("SIGKILL");
  throw new Error(`ds4-server did not start:\n${log}`);
}

const port = await freePort();
const server = await startServer(port);
const client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: "unused", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const ask = (fields) => client.chat.completions.create({ model, temperature: 0, max_tokens: 200, messages: [question], ...fields });

// Adds up a stream as a client would: text, reasoning, tool calls, the last finish reason and usage.
async function collect(stream, onText = () => {}) {
  const all = { content: "", reasoning: "", calls: [], finish: null, usage: null, pieces: 0 };
  for await (const chunk of stream) {
    all.usage = chunk.usage ?? all.usage;
    const choice = chunk.choices[0];
    if (!choice) continue;
    all.finish = choice.finish_reason ?? all.finish;
    all.reasoning += choice.delta.reasoning_content ?? "";
    if (choice.delta.content) {
      all.content += choice.delta.content;
      all.pieces += 1;
      onText();
    }
    for (const call of choice.delta.tool_calls ?? []) {
      const merged = (all.calls[call.index] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
      merged.id += call.id ?? "";
      merged.function.name += call.function?.name ?? "";
      merged.function.arguments += call.function?.arguments ?? "";
    }
  }
  return all;
}

async function rejects(fields, param) {
  const error = await ask(fields).then(() => null, (e) => e);
  assert(error instanceof OpenAI.BadRequestError, `${JSON.stringify(fields)} was answered with ${error}`);
  assert.equal(error.type, "invalid_request_error");
  assert.equal(error.param, param);
}

const tests = {
  "the model can be retrieved by its listed name": async () => {
    assert.equal((await client.models.retrieve(model)).id, model);
  },
  "a whole answer has text, finish reason and usage": async () => {
    const answer = await ask({});
    assert.match(answer.choices[0].message.content, /Paris/);
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert(answer.usage.prompt_tokens > 0 && answer.usage.completion_tokens > 0);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },
  "a streamed answer equals the whole one": async () => {
    const whole = await ask({});
    const streamed = await collect(await ask({ stream: true, stream_options: { include_usage: true } }));
    assert.equal(streamed.content, whole.choices[0].message.content);
    assert.equal(streamed.finish, "stop");
    assert.equal(streamed.usage.completion_tokens, whole.usage.completion_tokens);
    assert(streamed.pieces > 1, "the text came in one piece");
  },
  "max_tokens ends an answer with finish reason length": async () => {
    const answer = await ask({ max_tokens: 2 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 2);
  },
  "a streamed tool call round trip ends in an answer": async () => {
    const messages = [{ role: "user", content: "What is the weather in Paris?" }];
    const call = await collect(await ask({ stream: true, messages, tools: [weatherTool] }));
    assert.equal(call.finish, "tool_calls");
    assert.equal(call.calls.length, 1);
    assert.equal(call.calls[0].function.name, "get_weather");
    assert.deepEqual(JSON.parse(call.calls[0].function.arguments), { city: "Paris" });
    assert(call.calls[0].id);
    messages.push({ role: "assistant", content: call.content || null, tool_calls: call.calls });
    messages.push({ role: "tool", tool_call_id: call.calls[0].id, content: '{"city": "Paris", "temperature": 21, "condition": "sunny"}' });
    const answer = await collect(await ask({ stream: true, messages, tools: [weatherTool] }));
    assert.equal(answer.finish, "stop");
    assert.match(answer.content, /sunny.*21/);
  },
  "two streams at once are served in turns": async () => {
    const text = "Vera works as a teacher in Brussels. Nobody saw the rabbit that Monday. Isaac went to Lima in July.";
    const order = [];
    const stream = async (name) =>
      collect(await ask({ stream: true, messages: [{ role: "user", content: `Say exactly this: ${text}` }] }), () => order.push(name));
    const answers = await Promise.all([stream("a"), stream("b")]);
    for (const answer of answers) assert.equal(answer.content, text);
    assert(order.indexOf("b") < order.lastIndexOf("a") && order.indexOf("a") < order.lastIndexOf("b"), order.join(""));
  },
  "a client that leaves does not stop the server": async () => {
    const stream = await ask({ stream: true });
    for await (const _ of stream) break;  // leaving the loop aborts the request
    assert.match((await ask({})).choices[0].message.content, /Paris/);
  },
  "a wrong type is refused with the field's name": () => rejects({ temperature: "hot" }, "temperature"),
  "a value out of range is refused with the field's name": () => rejects({ top_p: 3 }, "top_p"),
  "missing messages are refused": () => rejects({ messages: undefined }, "messages"),
  "an unknown path is not found": async () => {
    await assert.rejects(client.get("/nothing"), OpenAI.NotFoundError);
  },
};

const counts = { passed: 0, failed: 0 };
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    counts.passed += 1;
    console.log(`ok      ${name}`);
  } catch (error) {
    counts.failed += 1;
    console.log(`FAILED  ${name}: ${error.message}`);
  }
}
server.kill();
console.log(`${counts.passed} passed, ${counts.failed} failed`);
process.exitCode = counts.failed ? 1 : 0;
