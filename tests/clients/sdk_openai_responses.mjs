// The openai package on /v1/responses.
import assert from "node:assert/strict";
import { instructions, prompts, toolName, toolResult, toolSchema, tooLong } from "./lib/script.mjs";

export function openaiResponses(OpenAI, name, version) {
  const make = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused" });
  const model = "deepseek-v4-flash";
  const user = (content) => ({ role: "user", content });
  const tools = [{ type: "function", name: toolName, description: "Weather of a city", parameters: toolSchema, strict: false }];
  const ask = (client, input, fields = {}) => client.responses.stream({ model, input, ...fields }).finalResponse();
  return {
    name,
    version,
    api: "responses",
    async whole(url) {
      const answer = await make(url).responses.create({ model, input: prompts.hello });
      assert.equal(answer.status, "completed");
      assert(answer.usage.total_tokens > 0);
      return answer.output_text;
    },
    async prompt(url) {
      const answer = await ask(make(url), prompts.hello);
      assert.equal(answer.status, "completed");
      assert.deepEqual(answer.output.map((item) => item.type), ["reasoning", "message"]);
      return answer.output_text;
    },
    async tool(url) {
      const client = make(url);
      const input = [user(prompts.weather)];
      const first = await ask(client, input, { tools });
      const call = first.output.find((item) => item.type === "function_call");
      assert.equal(call.name, toolName);
      assert.deepEqual(JSON.parse(call.arguments), { city: "Rome" });
      // The stream helper adds a parsed form that is not part of the API.
      const output = first.output.map(({ parsed_arguments, ...item }) => item);
      input.push(...output, { type: "function_call_output", call_id: call.call_id, output: toolResult });
      return (await ask(client, input, { tools })).output_text;
    },
    async turns(url) {
      const client = make(url);
      const first = await ask(client, [user(prompts.remember)], { instructions });
      const second = await ask(client, [user(prompts.recall)], { instructions, previous_response_id: first.id });
      return [first.output_text, second.output_text];
    },
    // Codex needs the error inside the stream (docs/server_api.md); whichever form it has, it must say what it is.
    async overflow(url) {
      let failed = null;
      const run = make(url).responses.stream({ model, input: tooLong });
      run.on("response.failed", (event) => (failed = event.response.error));
      const error = await run.done().then(() => null, (e) => e);
      assert.equal((failed ?? error)?.code, "context_length_exceeded", `found ${error}`);
    },
    async cancel(url) {
      const run = make(url).responses.stream({ model, input: prompts.endless });
      await new Promise((resolve, reject) => {
        run.once("response.output_text.delta", resolve);
        run.once("error", reject);
      });
      run.abort();
      const error = await run.done().then(() => null, (e) => e);
      assert(error instanceof OpenAI.APIUserAbortError, `found ${error}`);
    },
  };
}
