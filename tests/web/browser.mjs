// What the page's tests share: the servers, a browser, a page that is watched (no console errors, no request to another
// origin, no uncaught exception), accessibility by axe-core, screenshots, and a list of tests with one closing line.

import {strict as assert} from 'node:assert';
import {spawn} from 'node:child_process';
import {mkdirSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {createServer} from 'node:net';

import {chromium} from 'playwright-core';

import {MockServer} from './mock_server.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const CHROMIUM = process.env.DS4_TEST_CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
               '--disable-component-update', '--disable-sync'];
const WAIT_MS = 20_000;

async function freePort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const {port} = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

// Resolves once the server listens; rejects with what it said when it does not.
export async function startModelServer(bin, ...options) {
  const port = await freePort();
  const child = spawn(`${bin}/ds4-server`, ['--host', '127.0.0.1', '--port', String(port), ...options]);
  let log = '';
  await new Promise((resolve, reject) => {
    child.stderr.on('data', (text) => {
      log += text;
      if (log.includes('listening')) resolve();
    });
    child.on('exit', (code) => reject(new Error(`ds4-server ended with ${code}: ${log}`)));
  });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  return {
    url: `http://127.0.0.1:${port}/`,
    stop: () => {
      child.kill('SIGTERM');
      return ended;
    },
  };
}

async function pageOf(url) {
  const response = await fetch(url, {headers: {Accept: 'text/html'}});
  const headers = Object.fromEntries(response.headers);
  for (const name of ['content-length', 'connection', 'date', 'keep-alive', 'etag']) delete headers[name];
  return {html: await response.text(), headers};
}

export class Suite {
  constructor(bin, artefacts) {
    this.bin = bin;
    this.artefacts = artefacts;
    this.tests = [];
    mkdirSync(artefacts, {recursive: true});
  }

  test(name, run) {
    this.tests.push({name, run});
  }

  async runAll() {
    let passed = 0;
    let failed = 0;
    this.real = await startModelServer(this.bin, '--ctx', '4096');
    this.pageSource = await pageOf(this.real.url);
    this.browser = await chromium.launch({executablePath: CHROMIUM, headless: true, args: FLAGS});
    const only = process.env.DS4_WEB_TEST;
    for (const {name, run} of this.tests.filter((test) => !only || test.name.includes(only))) {
      const error = await this.runOne(run);
      if (error) console.log(`FAILED ${name}\n${error.stack}`);
      else console.log(`ok ${name}`);
      if (error) failed++;
      else passed++;
    }
    await this.browser.close();
    await this.real.stop();
    console.log(`${passed} passed, ${failed} failed`);
    return failed === 0 && passed > 0;
  }

  async runOne(run) {
    const world = new World(this);
    try {
      await run(world);
      world.assertClean();
    } catch (error) {
      await world.page?.screenshot({path: `${this.artefacts}/failed.png`}).catch(() => {});
      return error;
    } finally {
      await world.close();
    }
    return null;
  }
}

// What one test works with: its own browser profile and, when it asks for one, its own mock server.
export class World {
  constructor(suite) {
    this.suite = suite;
    this.problems = [];
    this.allowed = [];
  }

  // `allow` is a pattern of console errors that the scenario brings with it, such as a refused request.
  async open({real = false, allow = null, key = '', ...options} = {}) {
    if (allow) this.allowed.push(allow);
    if (!real) {
      this.mock = new MockServer(this.suite.pageSource);
      this.mock.key = key;
      await this.mock.start();
    }
    this.url = real ? this.suite.real.url : this.mock.url;
    this.context = await this.suite.browser.newContext({viewport: {width: 1200, height: 800}, reducedMotion: 'reduce',
                                                        ...options});
    this.context.setDefaultTimeout(WAIT_MS);
    this.page = await this.context.newPage();
    this.watch(this.page);
    await this.page.goto(this.url);
    return this.page;
  }

  watch(page) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.problems.push(`console: ${message.text()}`);
    });
    page.on('pageerror', (error) => this.problems.push(`exception: ${error.stack}`));
    page.on('request', (request) => {
      const url = new URL(request.url());
      const own = url.origin === new URL(this.url).origin || ['data:', 'blob:'].includes(url.protocol);
      if (!own) this.problems.push(`request to ${request.url()}`);
    });
  }

  assertClean() {
    const unexpected = this.problems.filter((problem) => !this.allowed.some((pattern) => pattern.test(problem)));
    assert.deepEqual(unexpected, []);
  }

  async close() {
    await this.context?.close();
    await this.mock?.stop();
  }

  async shot(name) {
    await this.page.screenshot({path: `${this.suite.artefacts}/${name}.png`});
  }

  // Through the debugger, so the page's policy does not keep axe-core out.
  async assertAccessible(what) {
    await this.page.evaluate(AXE);
    const {violations} = await this.page.evaluate(() => axe.run(document, {resultTypes: ['violations']}));
    const found = violations.map(({id, nodes}) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join(' | ')}`);
    assert.deepEqual(found, [], `accessibility of ${what}`);
  }

  async send(text) {
    await this.page.getByLabel('Message', {exact: true}).fill(text);
    await this.page.keyboard.press('Enter');
  }

  answer(index = -1) {
    const all = this.page.locator('.assistant');
    return index < 0 ? all.last() : all.nth(index);
  }

  // Until nothing runs any more.
  async finished() {
    await this.page.locator('#send').waitFor({state: 'visible'});
    await this.page.locator('.assistant.running').waitFor({state: 'detached'});
  }

  async ask(text) {
    const before = await this.page.locator('.user').count();
    await this.send(text);
    await this.page.locator('.user').nth(before).waitFor();
    await this.finished();
  }
}
