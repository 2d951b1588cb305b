// The page on the real server with the embedded model, and how / answers other clients.

import {strict as assert} from 'node:assert';

import {startModelServer} from './browser.mjs';

const QUESTION = 'Which city is the capital of France?';

export function addModelTests(suite) {
  suite.test('model: a question is answered, measured, regenerated, forked and still there after a reload', async (world) => {
    const page = await world.open({real: true});
    await page.getByText('ds4-mini', {exact: true}).waitFor();
    await world.shot('welcome');
    await world.assertAccessible('the empty page');
    await page.getByRole('button', {name: 'Settings'}).click();
    await page.getByLabel('Temperature').fill('0');
    await page.getByRole('button', {name: 'Save'}).click();
    await page.locator('#effort').selectOption('none');
    await world.ask(QUESTION);
    assert.match(await world.answer().textContent(), /Paris/);
    assert.match(await world.answer().locator('.stats').textContent(), /tokens? · first after .* · \d+ % of \d+ cached/);
    await world.answer().getByLabel('Regenerate answer').click();
    await world.finished();
    assert.equal(await world.answer().locator('.branch-count').textContent(), '2 / 2');
    assert.match(await world.answer().textContent(), /Paris/);
    await page.getByLabel('Edit message').click();
    await page.keyboard.press('ControlOrMeta+A');
    await page.keyboard.type('Which city is the capital of Italy?');
    await page.keyboard.press('Enter');
    await world.finished();
    assert.match(await world.answer().textContent(), /Rome/);
    await page.reload();
    assert.match(await world.answer().textContent(), /Rome/);
    await page.getByLabel('Previous version').click();
    assert.match(await world.answer().textContent(), /Paris/);
    await world.shot('model');
    await world.assertAccessible('a conversation with the model');
  });

  suite.test('model: thinking is shown apart, and a long answer can be stopped', async (world) => {
    const page = await world.open({real: true});
    await page.locator('#effort').selectOption('high');
    await world.ask('What is 185 minus 84?');
    await page.locator('.thinking summary').click();
    assert.notEqual((await page.locator('.thinking .markdown').textContent()).trim(), '');
    await world.shot('model-thinking');
    await world.send('Tell me a very long story about a king, a city and the sea.');
    await page.locator('.assistant.running').waitFor();
    await page.keyboard.press('Escape');
    await world.finished();
    await world.ask(QUESTION);
    assert.equal(await page.locator('.error-card').count(), 0);
  });

  suite.test('model: a prompt beyond the context is explained', async (world) => {
    const page = await world.open({real: true, allow: /status of 400/});
    await world.ask('many words '.repeat(6000));
    assert.match(await page.getByRole('alert').filter({hasText: 'too long'}).textContent(), /the context 4,096/);
  });

  suite.test('model: browsers get the page, others a line, and --no-web turns the page off', async () => {
    const {url} = suite.real;
    const ask = (accept, options = {}) => fetch(url, {...options, headers: {Accept: accept, ...options.headers}});
    const html = await ask('text/html,application/xhtml+xml;q=0.9,*/*;q=0.8');
    assert.match(html.headers.get('content-type'), /^text\/html/);
    assert.match(html.headers.get('content-security-policy'), /^default-src 'none'; script-src 'sha256-/);
    assert.match(await html.text(), /^<!doctype html>/);
    const head = await ask('text/html', {method: 'HEAD'});
    assert.equal(head.headers.get('content-length'), html.headers.get('content-length'));
    const known = await ask('text/html', {headers: {'If-None-Match': html.headers.get('etag')}});
    assert.equal(known.status, 304);
    assert.match((await ask('*/*')).headers.get('content-type'), /^text\/plain/);
    const plain = await startModelServer(suite.bin, '--no-web');
    const line = await fetch(plain.url, {headers: {Accept: 'text/html'}});
    assert.match(await line.text(), /^ds4\.cpp serves ds4-mini/);
    await plain.stop();
  });
}
