// The page on a server whose answers are known to the letter: every state that a user can see.

import {strict as assert} from 'node:assert';
import {readFileSync} from 'node:fs';

const TOOLS = '[{"name": "get_weather", "parameters": {"type": "object"}}]';
const REFUSED = /^console: Failed to load resource: the server responded with a status of (400|401|429)/;

const userTexts = (world) => world.page.locator('.user-text').allTextContents();
const answerTexts = (world) => world.page.locator('.assistant > .markdown').allTextContents();

function addSendingTests(suite) {
  suite.test('send: Enter sends, Shift+Enter breaks the line, empty text is not sent', async (world) => {
    const page = await world.open();
    const input = page.getByLabel('Message', {exact: true});
    await page.keyboard.press('Enter');
    await page.keyboard.type('first line');
    await page.keyboard.press('Shift+Enter');
    await page.keyboard.type('second line');
    await page.keyboard.press('Enter');
    await world.finished();
    assert.deepEqual(await userTexts(world), ['first line\nsecond line']);
    assert.deepEqual(await answerTexts(world), ['Answer 1 to: first line\nsecond line (1 messages)']);
    assert.equal(await input.inputValue(), '');
    assert.equal(world.mock.requests.length, 1);
    assert.match(await world.answer().locator('.stats').textContent(), /40 tokens · first after .* · 90 % of 200 cached/);
    assert.equal(await page.locator('#meter-text').textContent(), '240 / 4,096');
  });

  suite.test('send: the second turn has the first in front', async (world) => {
    await world.open();
    await world.ask('one');
    await world.ask('two');
    assert.deepEqual(world.mock.requests[1].body.messages, [
      {role: 'user', content: 'one'}, {role: 'assistant', content: 'Answer 1 to: one (1 messages)'},
      {role: 'user', content: 'two'}]);
  });

  suite.test('stream: pieces show as they come; nothing above moves; the end is followed only from the end', async (world) => {
    const page = await world.open({viewport: {width: 800, height: 420}});
    await world.send('slow please');
    await page.getByText('Step 1:').waitFor();
    await world.shot('streaming');
    const top = () => page.locator('.user').evaluate((element) => element.offsetTop);
    const before = await top();
    const atEnd = () => page.locator('#scroller').evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2);
    assert.equal(await world.answer().getAttribute('aria-busy'), 'true');
    world.mock.release();
    await page.getByText('Step 2:').waitFor();
    assert.equal(await top(), before);
    await page.waitForFunction(() => {
      const e = document.getElementById('scroller');
      return e.scrollTop > 0 && e.scrollHeight - e.scrollTop - e.clientHeight < 2;
    });
    await page.locator('#scroller').evaluate((element) => element.scrollTo(0, 0));
    await page.locator('#to-end').waitFor();
    world.mock.release();
    await page.getByText('Step 3:').waitFor();
    assert.equal(await page.locator('#scroller').evaluate((element) => element.scrollTop), 0);
    await page.locator('#to-end').click();
    assert.ok(await atEnd());
    world.mock.release();
    await world.finished();
    assert.equal(await world.answer().getAttribute('aria-busy'), 'false');
  });

  suite.test('stream: a screen reader hears whole answers, not pieces', async (world) => {
    const page = await world.open();
    await world.send('slow please');
    await page.getByText('Step 1:').waitFor();
    assert.equal(await page.locator('#announcer').textContent(), '');
    assert.equal(await page.locator('.assistant').evaluate((element) => element.closest('[aria-live]')), null);
    for (const step of ['Step 2:', 'Step 3:', '']) {
      world.mock.release();
      if (step) await page.getByText(step).waitFor();
    }
    await world.finished();
    await page.waitForFunction(() => /Step 1:[^]*Step 3:/.test(document.getElementById('announcer').textContent));
  });

  suite.test('stop: Esc and the button keep what came', async (world) => {
    const page = await world.open();
    for (const stop of [() => page.keyboard.press('Escape'), () => page.locator('#stop').click()]) {
      await world.send('slow please');
      await world.answer().getByText('Step 1:').waitFor();
      await stop();
      await world.finished();
      assert.match(await world.answer().locator('.stats').textContent(), /Stopped/);
      assert.match((await answerTexts(world)).at(-1), /Step 1:/);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'input');
    }
    await world.ask('next');
    assert.match(world.mock.requests.at(-1).body.messages[1].content, /^Step 1:/);
  });

  suite.test('background: an answer goes on while another conversation is shown', async (world) => {
    const page = await world.open();
    await world.send('slow one');
    await page.getByText('Step 1:').waitFor();
    await page.locator('#new').click();
    await world.ask('other');
    assert.equal(await page.locator('.running-dot').count(), 1);
    for (let step = 0; step < 3; step++) {
      while (world.mock.release() === 0) await page.evaluate(() => new Promise((resolve) => setTimeout(resolve, 10)));
    }
    await page.locator('.running-dot').waitFor({state: 'detached'});
    await page.getByRole('button', {name: 'slow one', exact: true}).click();
    await world.answer().getByText('Step 3:').waitFor();
  });
}

function addBranchTests(suite) {
  suite.test('branches: regenerate, edit and fork, move between them by click and arrow key', async (world) => {
    const page = await world.open();
    await world.ask('one');
    await world.ask('two');
    await world.answer().getByLabel('Regenerate answer').click();
    await world.finished();
    assert.equal(await world.answer().locator('.branch-count').textContent(), '2 / 2');
    assert.deepEqual((await answerTexts(world)).at(-1), 'Answer 3 to: two (3 messages)');
    await page.locator('.user').first().getByLabel('Edit message').click();
    await page.keyboard.press('ControlOrMeta+A');
    await page.keyboard.type('uno');
    await page.keyboard.press('Enter');
    await world.finished();
    assert.deepEqual(await userTexts(world), ['uno']);
    assert.deepEqual(world.mock.requests.at(-1).body.messages, [{role: 'user', content: 'uno'}]);
    await page.locator('.user').first().getByLabel('Previous version').click();
    assert.deepEqual(await userTexts(world), ['one', 'two']);
    assert.equal(await page.locator('.user .branch-count').first().textContent(), '1 / 2');
    await page.keyboard.press('ArrowRight');
    assert.deepEqual(await userTexts(world), ['uno']);
    await page.keyboard.press('ArrowLeft');
    assert.deepEqual(await userTexts(world), ['one', 'two']);
    await world.answer().getByLabel('Previous version').click();
    assert.equal((await answerTexts(world)).at(-1), 'Answer 2 to: two (3 messages)');
    await world.shot('branches');
    await world.assertAccessible('branches');
    await page.reload();
    assert.deepEqual(await userTexts(world), ['one', 'two']);
    assert.equal((await answerTexts(world)).at(-1), 'Answer 2 to: two (3 messages)');
  });

  suite.test('edit: Esc gives the message back unchanged, arrow up edits the last one', async (world) => {
    const page = await world.open();
    await world.ask('one');
    await page.keyboard.press('ArrowUp');
    await page.keyboard.type(' more');
    await page.keyboard.press('Escape');
    assert.deepEqual(await userTexts(world), ['one']);
    assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Edit message');
    assert.equal(world.mock.requests.length, 1);
  });
}

function addContentTests(suite) {
  suite.test('thinking: folded, opens, its time is shown', async (world) => {
    const page = await world.open();
    await world.send('think hard');
    const summary = page.locator('.thinking summary');
    await summary.getByText('Thinking').waitFor();
    assert.equal(await page.locator('.thinking').evaluate((element) => element.open), false);
    await summary.click();
    await page.getByText('First I recall the facts').waitFor();
    await world.shot('thinking');
    world.mock.release();
    await world.finished();
    assert.match(await summary.textContent(), /^Thought for /);
    assert.deepEqual(await answerTexts(world), ['Forty-two.']);
    await world.assertAccessible('thinking');
    await world.ask('next');
    assert.match(world.mock.requests[1].body.messages[1].reasoning_content, /First I recall/);
  });

  suite.test('tools: declared as JSON, calls shown, results entered by hand, a result edited', async (world) => {
    const page = await world.open();
    await page.getByRole('button', {name: 'Settings'}).click();
    await page.getByLabel('Tools').fill('[{"title": 1}]');
    await page.getByRole('button', {name: 'Save'}).click();
    assert.match(await page.locator('#tools-problem').textContent(), /function 1 has no name/);
    await page.getByLabel('Tools').fill(TOOLS);
    await page.getByRole('button', {name: 'Save'}).click();
    await world.ask('tools now');
    assert.deepEqual(world.mock.requests[0].body.tools, [{type: 'function', function: JSON.parse(TOOLS)[0]}]);
    assert.deepEqual(await page.locator('.call pre').allTextContents(),
                     ['{\n  "city": "Oslo",\n  "days": 2\n}', '{"zone": "Europe/Oslo", "id": 12345678901234567890}']);
    await world.assertAccessible('tool calls');
    await world.send('something else');
    assert.equal(world.mock.requests.length, 1);
    await page.getByLabel('Result of get_weather').fill('{"t": 4}');
    await page.getByLabel('Result of get_time').fill('noon');
    await world.shot('tools');
    await page.getByRole('button', {name: 'Send results'}).click();
    await world.answer().getByText('The tool said: noon').waitFor();
    await world.finished();
    const sent = world.mock.requests[1].body.messages;
    assert.deepEqual(sent[1].tool_calls[1].function, {name: 'get_time', arguments: '{"zone": "Europe/Oslo", "id": 12345678901234567890}'});
    assert.deepEqual(sent.slice(2), [{role: 'tool', tool_call_id: 'call_1', content: '{"t": 4}'},
                                     {role: 'tool', tool_call_id: 'call_2', content: 'noon'}]);
    await page.locator('.tool').first().getByLabel('Edit result').click();
    await page.keyboard.press('ControlOrMeta+A');
    await page.keyboard.type('warm');
    await page.keyboard.press('Enter');
    await world.finished();
    assert.deepEqual(world.mock.requests[2].body.messages.slice(2).map((message) => message.content), ['warm', 'noon']);
  });

  suite.test('markdown: code can be copied, links leave safely', async (world) => {
    const page = await world.open({permissions: ['clipboard-read', 'clipboard-write']});
    await world.ask('markdown please');
    await page.getByLabel('Copy code').click();
    assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def longest_prefix[^]*return 0$/);
    const link = page.getByRole('link', {name: 'the manual'});
    assert.equal(await link.getAttribute('rel'), 'noopener noreferrer nofollow');
    assert.equal(await link.getAttribute('href'), 'https://example.com/manual');
    await world.assertAccessible('markdown');
    await world.shot('markdown');
  });

  suite.test('XSS: hostile text stays text wherever it is shown', async (world) => {
    const page = await world.open();
    const hostile = 'xss <img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';
    await world.ask(hostile);
    assert.deepEqual(await userTexts(world), [hostile]);
    assert.equal(await page.locator('#title').textContent(), hostile.slice(0, 59) + '…');
    assert.match((await answerTexts(world)).at(-1), /<svg\/onload=window\.hacked=1>/);
    await page.reload();
    await page.getByText('<svg/onload').first().waitFor();
    assert.equal(await page.evaluate(() => window.hacked), undefined);
    assert.equal(await page.locator('#messages :is(script, img, iframe, object, embed, u)').count(), 0);
    const hrefs = await page.locator('#messages a').evaluateAll((links) => links.map((link) => link.protocol));
    assert.ok(hrefs.every((protocol) => protocol === 'https:'), hrefs.join());
    await world.shot('xss');
  });

  suite.test('policy: injected scripts, styles and requests are refused', async (world) => {
    const page = await world.open({allow: /^console: .*(Content Security Policy|TrustedHTML|TrustedScript|Trusted Type|violates)/i});
    const refused = await page.evaluate(async () => {
      const script = document.createElement('script');
      const results = [];
      try {
        script.text = 'window.hacked = 1';
        document.body.append(script);
      } catch { results.push('script'); }
      try {
        document.body.insertAdjacentHTML('beforeend', '<b>x</b>');
      } catch { results.push('markup'); }
      await fetch('http://127.0.0.1:9/').catch(() => results.push('request'));
      return {results, hacked: window.hacked};
    });
    assert.deepEqual(refused, {results: ['script', 'markup', 'request'], hacked: undefined});
  });
}

function addErrorTests(suite) {
  suite.test('errors: context overflow is explained', async (world) => {
    const page = await world.open({allow: REFUSED});
    await world.ask('overflow now');
    const card = page.getByRole('alert').filter({hasText: 'too long'});
    assert.match(await card.textContent(), /5,012 tokens, the context 4,096.*Edit an earlier message/);
    await world.assertAccessible('overflow');
    await world.shot('overflow');
  });

  suite.test('errors: a busy server can be asked again in place', async (world) => {
    const page = await world.open({allow: REFUSED});
    world.mock.busyLeft = 1;
    await world.ask('busy now');
    assert.match(await page.getByRole('alert').filter({hasText: 'busy'}).textContent(), /Try again in 2 seconds/);
    await page.getByRole('button', {name: 'Retry'}).click();
    await world.answer().getByText('Answer 2 to: busy now').waitFor();
    await world.finished();
    assert.equal(await page.locator('.error-card').count(), 0);
    assert.equal(await page.locator('.branches').count(), 0);
  });

  suite.test('errors: a key that the server asks for', async (world) => {
    const page = await world.open({allow: REFUSED, key: 'secret'});
    await page.locator('#key-field').fill('secret');
    await world.shot('key');
    await world.assertAccessible('key');
    await page.getByRole('button', {name: 'Save and retry'}).click();
    await page.getByText('mock-model', {exact: true}).waitFor();
    await world.ask('hello');
    assert.equal(world.mock.requests[0].authorization, 'Bearer secret');
    await page.reload();
    await page.getByText('mock-model', {exact: true}).waitFor();
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('secret')), false);
  });

  suite.test('errors: streams that break or fail keep their text and can be retried', async (world) => {
    const page = await world.open({allow: /ERR_|Failed to load resource/});
    for (const [text, kept, reason] of [['cut now', 'This is only the begin', /broke/], ['fail now', 'Half an answer', /out of memory/]]) {
      await world.ask(text);
      assert.equal((await answerTexts(world)).at(-1), kept);
      assert.match(await world.answer().getByRole('alert').textContent(), reason);
    }
    await world.answer().getByRole('button', {name: 'Retry'}).click();
    await world.finished();
    assert.equal(await world.answer().locator('.branch-count').textContent(), '2 / 2');
  });

  suite.test('errors: a server that went away', async (world) => {
    const page = await world.open({allow: /ERR_|Failed to load resource/});
    await page.getByText('mock-model', {exact: true}).waitFor();
    await world.mock.stop();
    await world.ask('hello');
    assert.match(await world.answer().getByRole('alert').textContent(), /No connection/);
    await world.shot('offline');
    await world.mock.start(Number(new URL(world.url).port));
    await page.getByRole('button', {name: 'Retry'}).click();
    await world.answer().getByText('Answer 1 to: hello').waitFor();
  });
}

function addStoreTests(suite) {
  suite.test('list: new, rename, delete, undo; all of it survives a reload', async (world) => {
    const page = await world.open();
    await world.ask('first talk');
    await page.locator('#new').click();
    await world.ask('second talk');
    await page.getByRole('button', {name: 'first talk', exact: true}).hover();
    await page.getByLabel('Rename “first talk”').click();
    await page.keyboard.press('ControlOrMeta+A');
    await page.keyboard.type('My title');
    await page.keyboard.press('Enter');
    await page.reload();
    const titles = () => page.locator('.conversation-title').allTextContents();
    assert.deepEqual((await titles()).sort(), ['My title', 'second talk']);
    await page.getByRole('button', {name: 'My title', exact: true}).hover();
    await page.getByLabel('Delete “My title”').click();
    assert.deepEqual(await titles(), ['second talk']);
    await page.getByRole('button', {name: 'Undo'}).click();
    assert.deepEqual((await titles()).sort(), ['My title', 'second talk']);
    await page.getByRole('button', {name: 'second talk', exact: true}).hover();
    await page.getByLabel('Delete “second talk”').click();
    await page.reload();
    assert.deepEqual(await titles(), ['My title']);
    await page.getByRole('button', {name: 'My title', exact: true}).click();
    assert.deepEqual(await userTexts(world), ['first talk']);
  });

  suite.test('export and import: another browser shows the same; a wrong file is refused', async (world) => {
    const page = await world.open();
    await world.ask('keep this');
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', {name: 'Export'}).click()]);
    const file = await download.path();
    assert.equal(JSON.parse(readFileSync(file, 'utf8')).conversations.length, 1);
    await page.evaluate(() => localStorage.clear());
    await page.reload();
    assert.deepEqual(await userTexts(world), []);
    await page.locator('#import-file').setInputFiles(file);
    await page.getByText('1 imported').waitFor();
    assert.deepEqual(await userTexts(world), ['keep this']);
    await page.locator('#import-file').setInputFiles({name: 'x.json', mimeType: 'application/json', buffer: Buffer.from('{}')});
    await page.getByText('Nothing was imported: this file holds no exported conversations').waitFor();
  });

  suite.test('settings: sent as set, kept, given to the next conversation', async (world) => {
    const page = await world.open();
    await page.getByRole('button', {name: 'Settings'}).click();
    for (const [label, value] of [['System prompt', 'Be kind.'], ['Temperature', '0.3'], ['Top p', '0.9'], ['Longest answer', '50'],
                                  ['Seed', '42']]) await page.getByLabel(label).fill(value);
    await world.shot('settings');
    await world.assertAccessible('settings');
    await page.getByRole('button', {name: 'Save'}).click();
    await page.locator('#effort').selectOption('high');
    await page.reload();
    await page.locator('#new').click();
    await world.ask('hello');
    const {messages, temperature, top_p, max_tokens, seed, reasoning_effort} = world.mock.requests[0].body;
    assert.deepEqual({messages, temperature, top_p, max_tokens, seed, reasoning_effort}, {
      messages: [{role: 'system', content: 'Be kind.'}, {role: 'user', content: 'hello'}], temperature: 0.3, top_p: 0.9,
      max_tokens: 50, seed: 42, reasoning_effort: 'high'});
  });

  suite.test('reload: an interrupted answer keeps its text and can be retried', async (world) => {
    const page = await world.open();
    await world.send('slow please');
    await page.getByText('Step 1:').waitFor();
    await page.reload();
    await page.getByText('This answer was interrupted.').waitFor();
    assert.match((await answerTexts(world))[0], /Step 1:/);
  });

  suite.test('facts: model, cache and server', async (world) => {
    const page = await world.open();
    await world.ask('hello');
    await page.getByRole('button', {name: 'About the model'}).click();
    await page.locator('#facts[open]').waitFor();
    const text = await page.locator('#facts-body').textContent();
    for (const fact of ['mock-model', '4,096 tokens', 'taken from the cache180 (90 %)', 'slots busy1']) assert.ok(text.includes(fact), fact);
    await world.assertAccessible('facts');
    await world.shot('facts');
  });
}

function addLookTests(suite) {
  for (const [width, scheme] of [[320, 'light'], [390, 'dark'], [768, 'light']]) {
    suite.test(`narrow: ${width} px, ${scheme}: nothing sticks out, the drawer opens and closes`, async (world) => {
      const page = await world.open({viewport: {width, height: 640}, colorScheme: scheme, hasTouch: true, isMobile: true});
      await world.ask('markdown please');
      await world.ask('tools now');
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
      assert.equal(await page.locator('#scroller').evaluate((element) => element.scrollWidth > element.clientWidth), false);
      await world.shot(`narrow-${width}`);
      await page.locator('#menu').click();
      assert.equal(await page.evaluate(() => document.activeElement.id), 'new');
      await world.assertAccessible(`drawer at ${width} px`);
      await world.shot(`drawer-${width}`);
      await page.keyboard.press('Escape');
      assert.equal(await page.evaluate(() => document.activeElement.id), 'menu');
      await world.assertAccessible(`page at ${width} px`);
    });
  }

  suite.test('theme: follows the system, and the toggle wins over it', async (world) => {
    const page = await world.open({colorScheme: 'dark'});
    const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const dark = await paper();
    await world.ask('markdown please');
    await world.assertAccessible('dark');
    await world.shot('dark');
    await page.locator('#theme').click();
    const light = await paper();
    assert.notEqual(light, dark);
    await world.assertAccessible('light');
    await page.reload();
    assert.equal(await paper(), light);
    await page.locator('#theme').click();
    assert.equal(await paper(), dark);
  });

  suite.test('keyboard: a whole conversation without a pointer', async (world) => {
    const page = await world.open();
    const tabTo = async (label) => {
      for (let i = 0; i < 40; i++) {
        await page.keyboard.press('Tab');
        if (await page.evaluate(() => document.activeElement === document.body)) continue;  // past the last one
        const name = await page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent);
        const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== 'none' ||
                                               document.activeElement.id === 'input');
        assert.ok(ring, `focus on '${name}' is visible`);
        if (name.trim() === label) return;
      }
      assert.fail(`no way by Tab to '${label}'`);
    };
    await page.keyboard.type('hello');
    await page.keyboard.press('Enter');
    await world.finished();
    await tabTo('Edit message');
    await page.keyboard.press('Enter');
    await page.keyboard.type('!');
    await page.keyboard.press('Enter');
    await world.finished();
    assert.equal(await page.locator('.user .branch-count').textContent(), '2 / 2');
    await tabTo('Previous version');
    await page.keyboard.press('ArrowLeft');
    assert.equal(await page.locator('.user .branch-count').textContent(), '1 / 2');
    await tabTo('Regenerate answer');
    await page.keyboard.press('Enter');
    await world.finished();
    await tabTo('Settings');
    await page.keyboard.press('Enter');
    await page.locator('#settings[open]').waitFor();
    await page.keyboard.press('Escape');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'open-settings');
    await tabTo('New conversation');
    await page.keyboard.press('Enter');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'input');
  });
}

export function addPageTests(suite) {
  addSendingTests(suite);
  addBranchTests(suite);
  addContentTests(suite);
  addErrorTests(suite);
  addStoreTests(suite);
  addLookTests(suite);
}
