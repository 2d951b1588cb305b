// Runs clients through scenarios, one after another, and keeps what was seen for docs/clients.md.
import assert from "node:assert/strict";
import fs from "node:fs";

const kScenarioTimeoutMs = Number(process.env.SCENARIO_TIMEOUT_MS ?? 60_000);

export class Scenarios {
  passed = 0;
  failed = 0;
  results = [];

  use(server, proxy) {
    Object.assign(this, { server, proxy });
  }

  // test(proxy, server) does what a user would do and checks what a user would see. `expect`: requests, the number of
  // generating requests that must have been sent, neither more (hidden retries) nor less; statuses of them, if not all
  // 200; whole: requests that do not stream are expected.
  async run(client, scenario, expect, test) {
    this.proxy.clear();
    this.server.clear();
    const result = { client: client.name, version: client.version, api: client.api, scenario, ok: true };
    let timer;
    try {
      const timeout = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error("timed out")), kScenarioTimeoutMs);
      });
      await Promise.race([test(this.proxy, this.server), timeout]);
      this.check(expect);
    } catch (error) {
      result.ok = false;
      result.error = String(error.message).slice(0, 600);
    }
    clearTimeout(timer);
    result.requests = this.proxy.generating().length;
    this.results.push(result);
    this[result.ok ? "passed" : "failed"] += 1;
    console.log(`${result.ok ? "ok     " : "FAILED "} ${client.name} (${client.api}): ${scenario}${result.ok ? "" : `: ${result.error}`}`);
    if (!result.ok && process.env.VERBOSE) console.log(JSON.stringify(this.proxy.requests, null, 1).slice(0, 20_000));
  }

  check(expect) {
    const sent = this.proxy.generating();
    const seen = sent.map((r) => `${r.method} ${r.path} ${r.status}`).join(", ");
    assert.equal(sent.length, expect.requests, `expected ${expect.requests} requests, found ${sent.length}: ${seen}`);
    for (const [i, request] of sent.entries()) {
      assert.equal(request.status, expect.statuses?.[i] ?? 200, seen);
      if (!expect.whole) assert.equal(request.body.stream, true, "a request without stream: true");
    }
  }

  // Every token of the first turn's prompt must serve the second. Requests beside the conversation (a title) have shorter
  // prompts than both, and may end at any time.
  checkReuse() {
    const [second, first] = [...this.server.reports].sort((a, b) => b.prompt_tokens - a.prompt_tokens);
    assert(
      second.cached_tokens >= first.prompt_tokens - 1,
      `the second turn reused ${second.cached_tokens} tokens of a first prompt of ${first.prompt_tokens}`,
    );
  }

  save(file) {
    fs.writeFileSync(file, JSON.stringify(this.results, null, 1) + "\n");
  }
}
