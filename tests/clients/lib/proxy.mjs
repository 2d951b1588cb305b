// A reverse proxy that records every request: what a client sent and how it was answered. Nothing is changed on the way.
import http from "node:http";

export class RecordingProxy {
  static async start(target) {
    const proxy = new RecordingProxy();
    proxy.target = new URL(target);
    proxy.requests = [];
    proxy.server = http.createServer((request, answer) => proxy.pass(request, answer));
    await new Promise((resolve) => proxy.server.listen(0, "127.0.0.1", resolve));
    proxy.url = `http://127.0.0.1:${proxy.server.address().port}`;
    return proxy;
  }

  pass(request, answer) {
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", () => {
      const raw = Buffer.concat(chunks);
      const record = { method: request.method, path: request.url, status: 0, answer: "", cancelled: false };
      try {
        record.body = raw.length ? JSON.parse(raw.toString()) : null;
      } catch {
        record.body = raw.toString();
      }
      this.requests.push(record);
      const headers = { ...request.headers, host: this.target.host };
      const { hostname, port } = this.target;
      const passed = http.request({ hostname, port, method: request.method, path: request.url, headers }, (reply) => {
        record.status = reply.statusCode;
        answer.writeHead(reply.statusCode, reply.headers);
        reply.on("data", (chunk) => (record.answer += chunk));
        reply.pipe(answer);
      });
      passed.on("error", () => answer.destroy());
      answer.on("close", () => {
        record.cancelled = !answer.writableFinished;
        passed.destroy();
      });
      passed.end(raw);
    });
  }

  // Requests that make the model write, in their order.
  generating() {
    return this.requests.filter((r) => r.method === "POST" && /\/(chat\/completions|responses|messages|completions)(\?|$)/.test(r.path));
  }

  clear() {
    this.requests.length = 0;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }
}
