// node sdks.mjs SCRIPTED_SERVER RESULTS.json [API...]: the client libraries, every scenario.
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import Anthropic from "@anthropic-ai/sdk";
import Anthropic0 from "anthropic-sdk-0";
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { RecordingProxy } from "./lib/proxy.mjs";
import { Scenarios } from "./lib/scenarios.mjs";
import { answers, rules } from "./lib/script.mjs";
import { ScriptedServer } from "./lib/server.mjs";
import { packageVersion } from "./lib/versions.mjs";
import { aiSdk } from "./sdk_ai.mjs";
import { anthropicMessages } from "./sdk_anthropic.mjs";
import { openaiChat } from "./sdk_openai_chat.mjs";
import { openaiResponses } from "./sdk_openai_responses.mjs";

const [, , binary, resultFile, ...apis] = process.argv;
const model = "deepseek-v4-flash";
const key = { apiKey: "unused" };
const compatible = (url) => createOpenAICompatible({ name: "ds4", baseURL: `${url}/v1`, includeUsage: true, ...key })(model);
const ai = (makeModel, api, provider) =>
  aiSdk(makeModel, api, `ai ${packageVersion("ai")} with ${provider}`, packageVersion(provider));

const clients = [
  openaiChat(OpenAI, "openai", packageVersion("openai")),
  openaiChat(OpenAI6, "openai", packageVersion("openai-6")),
  ai(compatible, "chat", "@ai-sdk/openai-compatible"),
  openaiResponses(OpenAI, "openai", packageVersion("openai")),
  openaiResponses(OpenAI6, "openai", packageVersion("openai-6")),
  ai((url) => createOpenAI({ baseURL: `${url}/v1`, ...key }).responses(model), "responses", "@ai-sdk/openai"),
  anthropicMessages(Anthropic, "@anthropic-ai/sdk", packageVersion("@anthropic-ai/sdk")),
  anthropicMessages(Anthropic0, "@anthropic-ai/sdk", packageVersion("anthropic-sdk-0")),
  ai((url) => createAnthropic({ baseURL: `${url}/v1`, ...key })(model), "messages", "@ai-sdk/anthropic"),
];

const scenarios = new Scenarios();
for (const client of clients) {
  if (apis.length && !apis.includes(client.api)) continue;
  // A new one for each, so that nothing is remembered of what the last client sent.
  const server = await ScriptedServer.start(binary, { ctx_tokens: 8192, step_delay_ms: 1, rules });
  const proxy = await RecordingProxy.start(server.url);
  scenarios.use(server, proxy);
  await scenarios.run(client, "one prompt, not streamed", { requests: 1, whole: true }, async () => {
    assert.equal(await client.whole(proxy.url), answers.hello);
    await server.until(1);
  });
  await scenarios.run(client, "one prompt", { requests: 1 }, async () => {
    assert.equal(await client.prompt(proxy.url), answers.hello);
    await server.until(1);
  });
  await scenarios.run(client, "tool round trip", { requests: 2 }, async () => {
    assert.equal(await client.tool(proxy.url), answers.weather);
    await server.until(2);
    scenarios.checkReuse();
  });
  await scenarios.run(client, "two turns", { requests: 2 }, async () => {
    assert.deepEqual(await client.turns(proxy.url), [answers.remember, answers.recall]);
    await server.until(2);
    scenarios.checkReuse();
  });
  const overflowStatus = client.api === "responses" ? 200 : 400;
  await scenarios.run(client, "context overflow", { requests: 1, statuses: [overflowStatus] }, () => client.overflow(proxy.url));
  await scenarios.run(client, "cancellation", { requests: 1 }, async () => {
    await client.cancel(proxy.url);
    await server.until(1);
    assert.equal(server.reports[0].finished, "cancelled");
  });
  proxy.stop();
  await server.stop();
}
scenarios.save(resultFile);
console.log(`${scenarios.passed} passed, ${scenarios.failed} failed`);
process.exitCode = scenarios.failed ? 1 : 0;
