// Starts the server with a scripted model (scripted_server.cc) and follows what it reports.
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";

const kReportTimeoutMs = 30_000;

export class ScriptedServer {
  static async start(binary, script) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ds4-script-"));
    const file = path.join(folder, "script.json");
    fs.writeFileSync(file, JSON.stringify(script));
    const server = new ScriptedServer();
    server.process = spawn(binary, [file], { stdio: ["pipe", "pipe", "inherit"], env: { DS4_LOG: "error", ...process.env } });
    server.reports = [];
    server.waiting = null;
    readline.createInterface({ input: server.process.stdout }).on("line", (line) => server.take(JSON.parse(line)));
    await server.until(1);
    fs.rmSync(folder, { recursive: true });
    const [first] = server.reports.splice(0, 1);
    server.url = `http://127.0.0.1:${first.port}`;
    server.model = first.model;
    return server;
  }

  take(report) {
    this.reports.push(report);
    this.waiting?.();
  }

  // Waits until the server has reported the end of n requests since the last clear().
  async until(n) {
    const timeout = setTimeout(() => this.waiting?.("timeout"), kReportTimeoutMs);
    try {
      while (this.reports.length < n) {
        const woken = await new Promise((resolve) => {
          this.waiting = resolve;
          if (this.process.exitCode !== null) resolve("exit");
        });
        if (woken) throw new Error(`the server reported ${this.reports.length} of ${n} requests (${woken})`);
      }
    } finally {
      clearTimeout(timeout);
      this.waiting = null;
    }
  }

  clear() {
    this.reports.length = 0;
  }

  async stop() {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stdin.end();
    const code = await ended;
    if (code !== 0) throw new Error(`the server ended with ${code}`);
  }
}
