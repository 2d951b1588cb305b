// How each agent is set up and called: its configuration files for a server at `url`, its command line, and where its
// answer stands in what it prints. docs/clients.md shows the same configurations.
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { packageVersion } from "./lib/versions.mjs";

const folder = new URL("agents/", import.meta.url);
const file = (name) => fileURLToPath(new URL(`node_modules/${name}`, folder));
const version = (name) => packageVersion(name, folder);
const model = "ds4-mini";

function write(home, name, content) {
  const target = path.join(home, name);
  fs.mkdirSync(path.dirname(target), { recursive: true });
  fs.writeFileSync(target, typeof content === "string" ? content : JSON.stringify(content, null, 2));
}

const jsonLines = (text) =>
  text
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line));

const codex = {
  name: "Codex",
  version: version("@openai/codex"),
  api: "responses",
  tool: { name: "exec_command", parameters: { cmd: "echo tool-ok" } },
  setUp(home, url, context) {
    write(
      home,
      ".codex/config.toml",
      `model = "${model}"
model_provider = "ds4"
model_context_window = ${context}
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.ds4]
name = "ds4"
base_url = "${url}/v1"
wire_api = "responses"
`,
    );
  },
  command: (prompt, { again } = {}) => [
    file("@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"),
    ...["exec", "--skip-git-repo-check", "--json"],
    ...(again ? ["resume", "--last"] : []),
    prompt,
  ],
  answerOf: (output) =>
    jsonLines(output)
      .filter((line) => line.item?.type === "agent_message")
      .map((line) => line.item.text)
      .at(-1),
};

const claude = {
  name: "Claude Code",
  version: version("@anthropic-ai/claude-code"),
  api: "messages",
  tool: { name: "Bash", parameters: { command: "echo tool-ok", description: "Prints a word" } },
  setUp() {},
  environment: (url) => ({
    ANTHROPIC_BASE_URL: url,
    ANTHROPIC_AUTH_TOKEN: "unused",
    ANTHROPIC_MODEL: model,
    ANTHROPIC_SMALL_FAST_MODEL: model,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    DISABLE_TELEMETRY: "1",
    DISABLE_ERROR_REPORTING: "1",
    DISABLE_AUTOUPDATER: "1",
  }),
  command: (prompt, { again } = {}) => [
    file("@anthropic-ai/claude-code-linux-x64/claude"),
    ...(again ? ["--continue"] : []),
    ...["-p", prompt, "--allowedTools", "Bash", "--output-format", "json"],
  ],
  answerOf: (output) => jsonLines(output).find((line) => line.type === "result")?.result,
};

const opencodeProviders = {
  chat: { npm: "@ai-sdk/openai-compatible" },
  responses: { npm: "@ai-sdk/openai" },
  messages: { npm: "@ai-sdk/anthropic" },
};
const opencode = (api) => ({
  name: "opencode",
  version: version("opencode-ai"),
  api,
  extraRequests: 1, // the title of a new session
  // Title, prompt, and the attempt at a summary, which holds the prompt and so does not fit either.
  overflow: { requests: 3, statuses: api === "responses" ? [200, 200, 200] : [400, 400, 400] },
  tool: { name: "bash", parameters: { command: "echo tool-ok", description: "Prints a word" } },
  setUp(home, url, context) {
    write(home, "work/opencode.json", {
      provider: {
        ds4: {
          ...opencodeProviders[api],
          options: { baseURL: `${url}/v1`, apiKey: "unused" },
          models: { [model]: { reasoning: true, tool_call: true, limit: { context, output: 4096 } } },
        },
      },
      model: `ds4/${model}`,
      small_model: `ds4/${model}`,
      autoupdate: false,
      share: "disabled",
      permission: { "*": "allow" },
    });
  },
  environment: () => ({
    OPENCODE_DISABLE_AUTOUPDATE: "1",
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
    OPENCODE_DISABLE_DEFAULT_PLUGINS: "1",
    OPENCODE_DISABLE_SHARE: "1",
  }),
  command: (prompt, { again } = {}) => [
    file("opencode-linux-x64/bin/opencode"),
    ...["run", "--format", "json"],
    ...(again ? ["--continue"] : []),
    ...["-m", `ds4/${model}`, prompt],
  ],
  answerOf: (output) =>
    jsonLines(output)
      .filter((line) => line.type === "text")
      .map((line) => line.part.text)
      .at(-1),
});

const piApis = { chat: "openai-completions", responses: "openai-responses", messages: "anthropic-messages" };
const pi = (api) => ({
  name: "Pi",
  version: version("@mariozechner/pi-coding-agent"),
  api,
  tool: { name: "bash", parameters: { command: "echo tool-ok" } },
  // The prompt, a summary of it in parts that fit, and the prompt again, after which it ends without a word. An error that
  // it does not recognise it prints.
  overflow: { requests: 3, statuses: api === "responses" ? [200, 200, 200] : [400, 200, 400], says: /^$/ },
  setUp(home, url, context) {
    const facts = { reasoning: true, input: ["text"], cost: { input: 0, output: 0, cacheRead: 0, cacheWrite: 0 } };
    write(home, ".pi/agent/models.json", {
      providers: {
        ds4: {
          baseUrl: api === "messages" ? url : `${url}/v1`,
          api: piApis[api],
          apiKey: "unused",
          models: [{ id: model, name: model, contextWindow: context, maxTokens: 4096, ...facts }],
        },
      },
    });
  },
  environment: () => ({ PI_OFFLINE: "1", PI_SKIP_VERSION_CHECK: "1", PI_TELEMETRY: "0" }),
  command: (prompt, { again } = {}) => [
    process.execPath,
    file("@mariozechner/pi-coding-agent/dist/cli.js"),
    ...(again ? ["--continue"] : []),
    ...["-p", "--provider", "ds4", "--model", model, prompt],
  ],
  answerOf: (output) => output.trim(),
});

export const agents = [
  opencode("chat"),
  pi("chat"),
  codex,
  opencode("responses"),
  pi("responses"),
  claude,
  opencode("messages"),
  pi("messages"),
];
