// The @anthropic-ai/sdk package on /v1/messages.
import assert from "node:assert/strict";
import { instructions, prompts, toolName, toolResult, toolSchema, tooLong } from "./lib/script.mjs";

export function anthropicMessages(Anthropic, name, version) {
  const make = (url) => new Anthropic({ baseURL: url, apiKey: "unused" });
  const model = "deepseek-v4-flash";
  const user = (content) => ({ role: "user", content });
  const tools = [{ name: toolName, description: "Weather of a city", input_schema: toolSchema }];
  const fields = { model, max_tokens: 4096, thinking: { type: "enabled", budget_tokens: 1024 } };
  const stream = (client, messages, more = {}) => client.messages.stream({ ...fields, messages, ...more });
  const textOf = (message) => message.content.filter((b) => b.type === "text").map((b) => b.text).join("");
  return {
    name,
    version,
    api: "messages",
    async whole(url) {
      const answer = await make(url).messages.create({ ...fields, messages: [user(prompts.hello)] });
      assert.equal(answer.stop_reason, "end_turn");
      assert(answer.usage.output_tokens > 0);
      return textOf(answer);
    },
    async prompt(url) {
      const answer = await stream(make(url), [user(prompts.hello)]).finalMessage();
      assert.equal(answer.stop_reason, "end_turn");
      assert.deepEqual(answer.content.map((b) => b.type), ["thinking", "text"]);
      assert(answer.usage.input_tokens + (answer.usage.cache_read_input_tokens ?? 0) > 0);
      return textOf(answer);
    },
    async tool(url) {
      const client = make(url);
      const messages = [user(prompts.weather)];
      const first = await stream(client, messages, { tools }).finalMessage();
      assert.equal(first.stop_reason, "tool_use");
      const call = first.content.find((b) => b.type === "tool_use");
      assert.equal(call.name, toolName);
      assert.deepEqual(call.input, { city: "Rome" });
      messages.push({ role: "assistant", content: first.content });
      messages.push(user([{ type: "tool_result", tool_use_id: call.id, content: toolResult }]));
      return textOf(await stream(client, messages, { tools }).finalMessage());
    },
    async turns(url) {
      const client = make(url);
      const messages = [user(prompts.remember)];
      const first = await stream(client, messages, { system: instructions }).finalMessage();
      messages.push({ role: "assistant", content: first.content }, user(prompts.recall));
      return [textOf(first), textOf(await stream(client, messages, { system: instructions }).finalMessage())];
    },
    async overflow(url) {
      const error = await stream(make(url), [user(tooLong)]).done().then(() => null, (e) => e);
      assert(error instanceof Anthropic.BadRequestError, `found ${error}`);
      assert.equal(error.error.error.type, "invalid_request_error");
      assert.match(error.error.error.message, /prompt is too long: \d+ tokens > \d+ maximum/);
    },
    async cancel(url) {
      const run = stream(make(url), [user(prompts.endless)]);
      await new Promise((resolve, reject) => {
        run.once("text", resolve);
        run.once("error", reject);
      });
      run.abort();
      const error = await run.done().then(() => null, (e) => e);
      assert(error instanceof Anthropic.APIUserAbortError, `found ${error}`);
    },
  };
}
