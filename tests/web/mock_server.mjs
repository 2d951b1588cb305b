// A server with the API's shape whose answers a test decides: the first word of the last user message names a scenario.
// It serves the page that the real server serves, with the same headers. `held` streams go on when the test says so.

import {readFile} from 'node:fs/promises';
import {createServer} from 'node:http';

export const MARKDOWN = [
  '## Caches, briefly', '', 'A cache keeps what was **computed before**, so the *next* request starts later in the work.',
  'It helps most when prompts `share a beginning`.', '', '1. Look up the longest known prefix', '2. Restore its state',
  '   - from memory', '   - or from disk', '3. Compute the rest', '', '> A wrong hit is worse than a miss.', '',
  '```python', 'def longest_prefix(known, prompt):', '    for n in range(len(prompt), 0, -1):',
  '        if tuple(prompt[:n]) in known:', '            return n  # a very long comment that needs to scroll sideways in a narrow window',
  '    return 0', '```', '', '| place | time |', '| --- | --- |', '| memory | 2 ms |', '| disk | 40 ms |', '',
  'More in [the manual](https://example.com/manual) or at https://example.com/faq.',
].join('\n');

export const XSS = [
  '<script>window.hacked = 1</script>', '<img src=x onerror="window.hacked = 1">', '<svg/onload=window.hacked=1>',
  '[click](javascript:window.hacked=1)', '[data](data:text/html,<script>window.hacked=1</script>)',
  '[vb](vbscript:x)', '[spaced](java\tscript:window.hacked=1)', '![image](https://other.example/pixel.png)',
  '[quote](https://example.com/"onmouseover="window.hacked=1)', '`<b>code</b>`', '&lt;i&gt;', '**<u>bold</u>**',
  '```html"><script>window.hacked=1</script>', '<iframe src="https://other.example"></iframe>', '```',
  '| <b>a</b> | b |\n| --- | --- |\n| <img src=x onerror=window.hacked=1> | c |', '<!-- comment -->', '</textarea></script>',
].join('\n\n');

const WEATHER = {id: 'call_1', name: 'get_weather', arguments: '{"city": "Oslo", "days": 2}'};
const TIME = {id: 'call_2', name: 'get_time', arguments: '{"zone": "Europe/Oslo", "id": 12345678901234567890}'};

const pieces = (text) => text.match(/\S+\s*|\s+/g) ?? [];

export class MockServer {
  constructor(page) {
    this.page = page;  // {html, headers} of the real server
    this.requests = [];
    this.busyLeft = 0;
    this.key = '';
    this.held = [];
  }

  async start(port = 0) {
    this.server = createServer((request, response) => this.handle(request, response));
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  // Lets every held stream go on by one step.
  release() {
    const waiting = this.held.splice(0);
    waiting.forEach((go) => go());
    return waiting.length;
  }

  async handle(request, response) {
    const {method, url} = request;
    if (url === '/') {
      response.writeHead(200, this.page.headers).end(this.page.html);
      return;
    }
    if (url === '/blank') {
      response.writeHead(200, {'Content-Type': 'text/html'}).end('<!doctype html><title>blank</title><link rel=icon href=data:,><body></body>');
      return;
    }
    if (url.startsWith('/module/')) {  // one module of the page by itself
      const source = await readFile(new URL(`../../src/server/web/${url.slice(8)}`, import.meta.url));
      response.writeHead(200, {'Content-Type': 'text/javascript'}).end(source);
      return;
    }
    if (this.key && request.headers.authorization !== `Bearer ${this.key}`) {
      this.refuse(response, 401, {message: 'a valid API key is needed', code: 'invalid_api_key'});
      return;
    }
    if (url === '/v1/models') {
      this.json(response, 200, {object: 'list', data: [{id: 'mock-model', name: 'Mock model', context_length: 4096,
                                                        top_provider: {max_completion_tokens: 4096}}]});
    } else if (url === '/props') {
      this.json(response, 200, {n_ctx: 4096, slots: {total: 4, busy: 1}, cache: {kv_pages: 128}});
    } else if (method === 'POST' && url === '/v1/chat/completions') {
      let body = '';
      for await (const chunk of request) body += chunk;
      const parsed = JSON.parse(body);
      this.requests.push({body: parsed, authorization: request.headers.authorization});
      await this.chat(parsed, response);
    } else {
      this.json(response, 404, {error: {message: 'unknown path'}});
    }
  }

  json(response, status, value, headers = {}) {
    response.writeHead(status, {'Content-Type': 'application/json', ...headers}).end(JSON.stringify(value));
  }

  refuse(response, status, error, headers) {
    this.json(response, status, {error: {type: 'invalid_request_error', param: null, ...error}}, headers);
  }

  async chat(body, response) {
    const last = body.messages.at(-1);
    const scenario = body.messages.findLast((message) => message.role === 'user').content.split(' ')[0];
    if (scenario === 'overflow') {
      this.refuse(response, 400, {message: 'the prompt is too long: 5,012 tokens', code: 'context_length_exceeded',
                                  n_prompt_tokens: 5012, n_ctx: 4096});
      return;
    }
    if (scenario === 'busy' && this.busyLeft-- > 0) {
      this.refuse(response, 429, {message: '64 requests wait already', code: 'server_busy'}, {'Retry-After': '2'});
      return;
    }
    response.writeHead(200, {'Content-Type': 'text/event-stream'});
    const delta = (value, finish = null) =>
      response.write(`data: ${JSON.stringify({choices: [{index: 0, delta: value, finish_reason: finish}]})}\n\n`);
    delta({role: 'assistant', content: ''});
    const finish = await this.play(scenario, last, delta, response, body);
    if (finish === null) return;
    delta({}, finish);
    const usage = {prompt_tokens: 200, completion_tokens: 40, prompt_tokens_details: {cached_tokens: 180},
                   completion_tokens_details: {reasoning_tokens: scenario === 'think' ? 12 : 0}};
    response.end(`data: ${JSON.stringify({choices: [], usage})}\n\ndata: [DONE]\n\n`);
  }

  hold(response) {
    return new Promise((resolve) => {
      this.held.push(resolve);
      response.on('close', resolve);
    });
  }

  // Writes the answer; null when the stream was ended here.
  async play(scenario, last, delta, response, body) {
    const say = (text) => pieces(text).forEach((content) => delta({content}));
    if (last.role === 'tool') {
      say(`The tool said: ${last.content}`);
    } else if (scenario === 'tool' || scenario === 'tools') {
      (scenario === 'tool' ? [WEATHER] : [WEATHER, TIME]).forEach((call, index) => {
        delta({tool_calls: [{index, id: call.id, type: 'function', function: {name: call.name, arguments: ''}}]});
        for (const part of call.arguments.match(/.{1,6}/g)) delta({tool_calls: [{index, function: {arguments: part}}]});
      });
      return 'tool_calls';
    } else if (scenario === 'think') {
      pieces('The user wants a short answer. First I recall the facts, then I check them.').forEach((text) =>
        delta({reasoning_content: text}));
      await this.hold(response);
      say('Forty-two.');
    } else if (scenario === 'slow') {
      for (let step = 1; step <= 3; step++) {
        say(`Step ${step}: ${'a line of text that is being written. '.repeat(12)}\n\n`);
        await this.hold(response);
        if (response.destroyed) return null;
      }
    } else if (scenario === 'cut') {
      say('This is only the begin');
      setTimeout(() => response.destroy(), 20);
      return null;
    } else if (scenario === 'fail') {
      say('Half an answer');
      response.end('event: error\ndata: {"error":{"message":"the engine failed: out of memory","type":"server_error"}}\n\n');
      return null;
    } else if (scenario === 'markdown') {
      say(MARKDOWN);
    } else if (scenario === 'xss') {
      say(XSS);
    } else {
      say(`Answer ${this.requests.length} to: ${last.content} (${body.messages.length} messages)`);
    }
    return 'stop';
  }
}
