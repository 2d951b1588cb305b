// The page's modules one by one: the tree of a conversation and its import in Node, Markdown in a browser without the
// page around it.

import {strict as assert} from 'node:assert';
import {readFileSync} from 'node:fs';

import {MARKDOWN, XSS} from './mock_server.mjs';

const source = readFileSync(new URL('../../src/server/web/conversation.js', import.meta.url), 'utf8');
const tree = await import(`data:text/javascript,${encodeURIComponent(source)}`);

// A small generator with a seed, so that a failure can be seen again.
function randomFrom(seed) {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

function forked() {
  const conversation = tree.newConversation({system: 'Be brief.', temperature: '0.5', seed: '7', effort: 'low'});
  const first = tree.addNode(conversation, tree.ROOT, {role: 'user', content: 'one'});
  const answer = tree.addNode(conversation, first.id, {role: 'assistant', content: 'uno', reasoning: 'hm', finish: 'stop'});
  tree.addNode(conversation, answer.id, {role: 'user', content: 'two'});
  const other = tree.addNode(conversation, answer.id, {role: 'user', content: 'zwei'});
  return {conversation, first, answer, other};
}

export function addModuleTests(suite) {
  suite.test('tree: the newest version is shown, an older one can be chosen', () => {
    const {conversation, answer, other} = forked();
    assert.deepEqual(tree.shownPath(conversation).map((node) => node.content), ['one', 'uno', 'zwei']);
    tree.choose(conversation, conversation.children[answer.id][0]);
    assert.deepEqual(tree.shownPath(conversation).map((node) => node.content), ['one', 'uno', 'two']);
    tree.removeLeaf(conversation, conversation.nodes[conversation.children[answer.id][0]]);
    assert.deepEqual(tree.shownPath(conversation).at(-1), other);
  });

  suite.test('tree: a request has the shown branch and the settings that are set', () => {
    const {conversation, other} = forked();
    assert.deepEqual(tree.requestBody(conversation, other.id, 'm'), {
      model: 'm', stream: true, stream_options: {include_usage: true}, temperature: 0.5, seed: 7, reasoning_effort: 'low',
      messages: [{role: 'system', content: 'Be brief.'}, {role: 'user', content: 'one'},
                 {role: 'assistant', content: 'uno', reasoning_content: 'hm'}, {role: 'user', content: 'zwei'}],
    });
  });

  suite.test('tree: tool calls wait until each has a result', () => {
    const conversation = tree.newConversation({});
    const user = tree.addNode(conversation, tree.ROOT, {role: 'user', content: 'q'});
    const calls = ['a', 'b'].map((id) => ({id, name: 'f', arguments: '{}'}));
    const answer = tree.addNode(conversation, user.id, {role: 'assistant', tool_calls: calls});
    const result = tree.addNode(conversation, answer.id, {role: 'tool', tool_call_id: 'a', content: '1'});
    assert.deepEqual(tree.openCalls(conversation).map((call) => call.id), ['b']);
    tree.addNode(conversation, result.id, {role: 'tool', tool_call_id: 'b', content: '2'});
    assert.deepEqual(tree.openCalls(conversation), []);
  });

  suite.test('tree: tools are read in both forms, and what is wrong is said', () => {
    const bare = '[{"name": "f", "parameters": {}}]';
    assert.deepEqual(tree.parseTools(bare), [{type: 'function', function: {name: 'f', parameters: {}}}]);
    assert.deepEqual(tree.parseTools(JSON.stringify(tree.parseTools(bare))), tree.parseTools(bare));
    assert.throws(() => tree.parseTools('['), /not valid JSON/);
    assert.throws(() => tree.parseTools('{}'), /array/);
    assert.throws(() => tree.parseTools('[{"name": "f"}, null]'), /function 2 has no name/);
  });

  suite.test('import: an export comes back with its branches', () => {
    const {conversation, answer} = forked();
    tree.choose(conversation, conversation.children[answer.id][0]);
    const [copy] = tree.importJson(tree.exportJson([conversation]));
    const texts = (one) => tree.shownPath(one).map((node) => [node.role, node.content, node.reasoning ?? '']);
    assert.deepEqual(texts(copy), texts(conversation));
    assert.equal(Object.keys(copy.nodes).length, 4);
    assert.deepEqual(copy.settings, conversation.settings);
    assert.notEqual(copy.id, conversation.id);
  });

  suite.test('import: damaged files give a reason or a sound conversation', () => {
    assert.throws(() => tree.importJson('<html>'), /not JSON/);
    assert.throws(() => tree.importJson('{"format": "other"}'), /no exported conversations/);
    const random = randomFrom(5);
    const good = tree.exportJson([forked().conversation]);
    const junk = ['null', '[]', '{}', '"x"', '-1', 'true', '"__proto__"', '"root"', '{"root":["root"]}'];
    let imported = 0;
    for (let round = 0; round < 2000; round++) {
      const values = [...good.matchAll(/"[^"]*"(?!:)|\d+|\[\]/g)];
      const {0: found, index} = values[random(values.length)];
      const text = good.slice(0, index) + junk[random(junk.length)] + good.slice(index + found.length);
      let list;
      try {
        list = tree.importJson(text);
      } catch (error) {
        assert.match(error.message, /^this file/);
        continue;
      }
      for (const conversation of list) {
        const path = tree.shownPath(conversation);
        path.forEach((node) => assert.equal(typeof node.content, 'string'));
        assert.ok(tree.titleOf(conversation).length > 0);
        if (path.length) tree.toMessages(conversation, path.at(-1).id);
        imported++;
      }
    }
    assert.ok(imported > 500, `${imported} of 2000 were imported`);
    assert.equal({}.root, undefined);
  });

  suite.test('markdown: any way of growing gives the same as the whole text', async (world) => {
    const page = await openBlank(world);
    const differing = await page.evaluate(async ([texts]) => {
      const {MarkdownView} = await import('/module/markdown.js');
      const shown = (steps) => {
        const element = document.createElement('div');
        const view = new MarkdownView(element);
        steps.forEach((text) => view.update(text));
        return element.innerHTML;
      };
      return texts.filter((text) => {
        const prefixes = Array.from(text, (_, i) => text.slice(0, i + 1));
        return shown(prefixes) !== shown([text]);
      });
    }, [[MARKDOWN, XSS, '# a\n### b\n\n- x\n\n- y\n  ```\n  z\n  ```\n~~~\nopen']]);
    assert.deepEqual(differing, []);
  });

  suite.test('markdown: elements, text and links are what was written', async (world) => {
    const page = await openBlank(world);
    const html = await page.evaluate(async () => {
      const {inlineNodes} = await import('/module/markdown.js');
      const render = (text) => {
        const element = document.createElement('p');
        element.append(...inlineNodes(text));
        return element.innerHTML;
      };
      return ['a **b** *c* `d`', '***x***', 'snake_case_name and 2 * 3 * 4', '~~no~~', '\\*plain\\*', '**open', '`a', '`` a`b ``',
              '[t](https://e.org/x)', '[t](javascript:x)', 'see https://e.org/a_b, ok'].map(render);
    });
    const link = (url, text) => `<a href="${url}" rel="noopener noreferrer nofollow" target="_blank">${text}</a>`;
    assert.deepEqual(html, [
      'a <strong>b</strong> <em>c</em> <code>d</code>', '<strong><em>x</em></strong>', 'snake_case_name and 2 * 3 * 4',
      '<del>no</del>', '*plain*', '**open', '`a', '<code>a`b</code>', link('https://e.org/x', 't'), '[t](javascript:x)',
      `see ${link('https://e.org/a_b', 'https://e.org/a_b')}, ok`]);
  });

  suite.test('markdown: random texts make no element or attribute but the known ones', async (world) => {
    const page = await openBlank(world);
    const random = randomFrom(11);
    const tokens = ['<script>', '</script>', '<img src=x onerror=hacked=1>', '[a](', 'javascript:hacked=1', ')', '](', '![', '[',
                    'https://e.org/', 'data:text/html,', '"', "'", '<', '>', '&lt;', '`', '```', '~~~', '*', '**', '_', '~~', '|',
                    '\n', '\n\n', '- ', '1. ', '> ', '# ', '| --- |', '    ', 'word', '\\', '\u0000', '\u202e', '😀'];
    const texts = Array.from({length: 1500}, () =>
      Array.from({length: 1 + random(30)}, () => tokens[random(tokens.length)]).join(''));
    const bad = await page.evaluate(async ([list]) => {
      const {MarkdownView} = await import('/module/markdown.js');
      const tags = new Set(('a b blockquote button code del div em h2 h3 h4 h5 h6 hr li ol p path pre span strong svg table tbody ' +
                            'td th thead tr ul').split(' '));
      const attributes = new Set(('aria-hidden aria-label class d href rel role start tabindex target title type ' +
                                  'viewBox').split(' '));
      const found = [];
      for (const text of list) {
        const element = document.createElement('div');
        document.body.replaceChildren(element);
        new MarkdownView(element).update(text);
        for (const node of element.querySelectorAll('*')) {
          const isLink = node.localName !== 'a' || (/^(https?|mailto):/.test(node.href) && /noopener/.test(node.rel));
          if (!tags.has(node.localName) || !isLink || [...node.attributes].some(({name}) => !attributes.has(name))) {
            found.push([text, node.outerHTML]);
          }
        }
      }
      return found.concat(window.hacked ? ['a script ran'] : []);
    }, [texts]);
    assert.deepEqual(bad, []);
  });

  suite.test('markdown: texts that nest or repeat without end are shown', async (world) => {
    const page = await openBlank(world);
    const lengths = await page.evaluate(async () => {
      const {MarkdownView} = await import('/module/markdown.js');
      return ['*', '**a ', '[', '](', '`', '_a ', '~~', '> ', '- ', '|', '![', 'https://', '\\', '**[`'].map((piece) => {
        const element = document.createElement('div');
        new MarkdownView(element).update(piece.repeat(20000));
        return element.textContent.length;
      });
    });
    assert.equal(lengths.length, 14);
  });
}

async function openBlank(world) {
  await world.open();
  await world.page.goto(`${world.url}blank`);
  return world.page;
}
