// The ai package (Vercel AI SDK) with one of its providers.
import assert from "node:assert/strict";
import { jsonSchema, stepCountIs, streamText, generateText, tool } from "ai";
import { instructions, prompts, toolName, toolResult, toolSchema, tooLong } from "./lib/script.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

export function aiSdk(makeModel, api, name, version) {
  const run = (url, fields) => {
    const errors = [];
    const result = streamText({ model: makeModel(url), onError: ({ error }) => errors.push(error), ...fields });
    return { result, errors };
  };
  const textOf = async ({ result, errors }) => {
    const text = await result.text.catch((e) => errors.push(e));
    if (errors.length) throw errors[0];
    return text;
  };
  return {
    name,
    version,
    api,
    async whole(url) {
      const answer = await generateText({ model: makeModel(url), prompt: prompts.hello });
      assert.equal(answer.finishReason, "stop");
      return answer.text;
    },
    async prompt(url) {
      const answer = run(url, { prompt: prompts.hello });
      const text = await textOf(answer);
      assert.equal(await answer.result.finishReason, "stop");
      const usage = await answer.result.totalUsage;
      assert(usage.inputTokens > 0 && usage.outputTokens > 0, JSON.stringify(usage));
      return text;
    },
    async tool(url) {
      const calls = [];
      const execute = async (args) => (calls.push(args), toolResult);
      const tools = { [toolName]: tool({ description: "Weather of a city", inputSchema: jsonSchema(toolSchema), execute }) };
      const answer = run(url, { prompt: prompts.weather, tools, stopWhen: stepCountIs(3) });
      const text = await textOf(answer);
      assert.deepEqual(calls, [{ city: "Rome" }]);
      assert.equal((await answer.result.steps).length, 2);
      return text;
    },
    async turns(url) {
      const messages = [{ role: "user", content: prompts.remember }];
      const first = run(url, { system: instructions, messages });
      const text = await textOf(first);
      messages.push(...(await first.result.response).messages, { role: "user", content: prompts.recall });
      return [text, await textOf(run(url, { system: instructions, messages }))];
    },
    async overflow(url) {
      const error = await textOf(run(url, { prompt: tooLong })).then(() => null, (e) => e);
      assert.match(JSON.stringify([error?.message, error?.data, error?.responseBody]), /context|prompt is too long/, `found ${error}`);
    },
    async cancel(url) {
      const abort = new AbortController();
      const { result } = run(url, { prompt: prompts.endless, abortSignal: abort.signal });
      let n = 0;
      for await (const part of result.fullStream) {
        if (part.type === "text-delta" && n++ === 0) abort.abort();
        if (part.type === "abort") return;
      }
      throw new Error("the stream ended without having been aborted");
    },
  };
}
