// The openai package on /v1/chat/completions.
import assert from "node:assert/strict";
import { instructions, prompts, toolName, toolResult, toolSchema, tooLong } from "./lib/script.mjs";

export function openaiChat(OpenAI, name, version) {
  const make = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });
  const model = "deepseek-v4-flash";
  const user = (content) => ({ role: "user", content });
  const stream = (client, messages, fields = {}) =>
    client.chat.completions.stream({ model, messages, stream_options: { include_usage: true }, ...fields });
  return {
    name,
    version,
    api: "chat",
    async whole(url) {
      const answer = await make(url).chat.completions.create({ model, messages: [user(prompts.hello)] });
      assert.equal(answer.choices[0].finish_reason, "stop");
      assert(answer.usage.completion_tokens > 0);
      return answer.choices[0].message.content;
    },
    async prompt(url) {
      const run = stream(make(url), [user(prompts.hello)]);
      const answer = await run.finalChatCompletion();
      assert.equal(answer.choices[0].finish_reason, "stop");
      assert((await run.totalUsage()).total_tokens > 0);
      return run.finalContent();
    },
    async tool(url) {
      const calls = [];
      const weather = { name: toolName, description: "Weather of a city", parameters: toolSchema, parse: JSON.parse };
      const call = (args) => (calls.push(args), toolResult);
      const run = make(url).chat.completions.runTools({
        model,
        stream: true,
        messages: [user(prompts.weather)],
        tools: [{ type: "function", function: { ...weather, function: call } }],
      });
      const text = await run.finalContent();
      assert.deepEqual(calls, [{ city: "Rome" }]);
      return text;
    },
    async turns(url) {
      const client = make(url);
      const messages = [{ role: "system", content: instructions }, user(prompts.remember)];
      const first = await stream(client, messages).finalMessage();
      messages.push(first, user(prompts.recall));
      return [first.content, await stream(client, messages).finalContent()];
    },
    async overflow(url) {
      const error = await stream(make(url), [user(tooLong)]).done().then(() => null, (e) => e);
      assert(error instanceof OpenAI.BadRequestError, `found ${error}`);
      assert.equal(error.code, "context_length_exceeded");
    },
    async cancel(url) {
      const run = stream(make(url), [user(prompts.endless)]);
      await new Promise((resolve, reject) => {
        run.once("content", resolve);
        run.once("error", reject);
      });
      run.abort();
      const error = await run.done().then(() => null, (e) => e);
      assert(error instanceof OpenAI.APIUserAbortError, `found ${error}`);
    },
  };
}
