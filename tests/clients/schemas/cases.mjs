// The requests whose answers are checked: path, body, and what the answer must be (type of the whole answer, type of the
// events of a stream, status).
import { answers, prompts, toolName, toolSchema, tooLong } from "../lib/script.mjs";

const model = "deepseek-v4-flash";
const parameters = toolSchema;
const weather = { name: toolName, description: "Weather of a city" };
const user = (content) => [{ role: "user", content }];

const chat = (name, fields, more = {}) => ({
  name: `chat: ${name}`,
  path: "/v1/chat/completions",
  body: { model, messages: user(prompts.hello), ...fields },
  type: "ChatCompletion",
  event: "ChatCompletionChunk",
  ...more,
});
const completion = (name, fields, more = {}) => ({
  name: `completions: ${name}`,
  path: "/v1/completions",
  body: { model, prompt: "Once upon a time", max_tokens: 8, ...fields },
  type: "Completion",
  event: "CompletionChunk",
  ...more,
});
const response = (name, fields, more = {}) => ({
  name: `responses: ${name}`,
  path: "/v1/responses",
  body: { model, input: prompts.hello, ...fields },
  type: "ResponseObject",
  event: "ResponseStreamEvent",
  named: true,
  ...more,
});
const message = (name, fields, more = {}) => ({
  name: `messages: ${name}`,
  path: "/v1/messages",
  body: { model, max_tokens: 512, messages: user(prompts.hello), ...fields },
  type: "Message",
  event: "RawMessageStreamEvent",
  named: true,
  ...more,
});

const openaiError = (status) => ({ status, type: "OpenaiError", event: undefined });
const anthropicError = (status) => ({ status, type: "AnthropicError", event: undefined });
const bothWays = (make, name, fields, more) => [make(name, fields, more), make(`${name}, streamed`, { ...fields, stream: true }, more)];

const chatTools = { messages: user(prompts.weather), tools: [{ type: "function", function: { ...weather, parameters } }] };
const responseTools = { input: prompts.weather, tools: [{ type: "function", ...weather, parameters, strict: false }] };
const messageTools = { messages: user(prompts.weather), tools: [{ ...weather, input_schema: parameters }] };
const thinking = { type: "enabled", budget_tokens: 1024 };

export const cases = [
  ...bothWays(chat, "text", {}),
  ...bothWays(chat, "text without thinking", { thinking: { type: "disabled" } }),
  ...bothWays(chat, "tool call", chatTools),
  ...bothWays(chat, "length", { max_tokens: 3 }),
  ...bothWays(chat, "logprobs", { logprobs: true, top_logprobs: 2 }),
  ...bothWays(chat, "stop string", { stop: [answers.hello.slice(6, 10)] }),
  chat("usage in a stream", { stream: true, stream_options: { include_usage: true } }),
  chat("wrong type", { temperature: "hot" }, openaiError(400)),
  chat("no messages", { messages: undefined }, openaiError(400)),
  chat("overflow", { messages: user(tooLong) }, openaiError(400)),
  chat("overflow, streamed", { messages: user(tooLong), stream: true }, openaiError(400)),
  { name: "chat: broken JSON", path: "/v1/chat/completions", raw: "{", ...openaiError(400) },
  { name: "chat: wrong method", path: "/v1/chat/completions", method: "GET", ...openaiError(405) },
  { name: "unknown path", path: "/v1/nothing", method: "GET", ...openaiError(404) },

  { name: "models: list", path: "/v1/models", method: "GET", type: "Model", list: true },
  { name: "models: one", path: `/v1/models/${model}`, method: "GET", type: "Model" },
  { name: "models: unknown", path: "/v1/models/none", method: "GET", ...openaiError(404) },

  { name: "models: list for Anthropic's clients", path: "/v1/models", method: "GET", type: "ModelInfo", list: true, forAnthropic: true },
  { name: "models: one for Anthropic's clients", path: `/v1/models/${model}`, method: "GET", type: "ModelInfo", forAnthropic: true },

  ...bothWays(completion, "text", {}),
  ...bothWays(completion, "logprobs", { logprobs: 2 }),
  completion("wrong type", { prompt: { text: "no" } }, openaiError(400)),
  completion("overflow", { prompt: tooLong }, openaiError(400)),

  ...bothWays(response, "text", {}),
  ...bothWays(response, "text without reasoning", { reasoning: { effort: "none" } }),
  ...bothWays(response, "function call", responseTools),
  ...bothWays(response, "length", { max_output_tokens: 16, input: prompts.endless }),
  response("wrong type", { temperature: "hot" }, openaiError(400)),
  response("overflow", { input: tooLong }, openaiError(400)),
  response("overflow, streamed", { input: tooLong, stream: true }),
  response("unknown previous response", { previous_response_id: "resp_none" }, openaiError(400)),

  ...bothWays(message, "text", {}),
  ...bothWays(message, "text after thinking", { thinking }),
  ...bothWays(message, "tool use", messageTools),
  ...bothWays(message, "tool use after thinking", { ...messageTools, thinking }),
  ...bothWays(message, "length", { max_tokens: 3 }),
  ...bothWays(message, "stop sequence", { stop_sequences: [answers.hello.slice(6, 10)] }),
  message("wrong type", { temperature: "hot" }, anthropicError(400)),
  message("no messages", { messages: undefined }, anthropicError(400)),
  message("overflow", { messages: user(tooLong) }, anthropicError(400)),
  message("overflow, streamed", { messages: user(tooLong), stream: true }, anthropicError(400)),
  { name: "messages: broken JSON", path: "/v1/messages", raw: "{", ...anthropicError(400) },
  {
    name: "count_tokens",
    path: "/v1/messages/count_tokens",
    body: { model, messages: user(prompts.hello) },
    type: "MessageTokensCount",
  },
  {
    name: "count_tokens: wrong type",
    path: "/v1/messages/count_tokens",
    body: { model, messages: 3 },
    ...anthropicError(400),
  },
];
