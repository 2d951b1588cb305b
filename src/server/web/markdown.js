// A small, safe subset of Markdown: paragraphs, headings, lists, quotes, tables, rules, code blocks with a copy button,
// inline code, bold, italic, struck-through text, links. The source becomes text nodes and elements that are made one
// by one, so nothing in it can be markup; links lead to http, https and mailto only, images become links.
// Time is linear in the source but for the few levels that lists, quotes and emphasis nest.

import {copyButton, el} from './dom.js';

const MAX_DEPTH = 8;
const FENCE = /^ {0,3}(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const RULE = /^ {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const TABLE_RULE = /^[ |:-]*-[ |:-]*$/;
const SAFE_LINK = /^(?:https?:\/\/|mailto:)[^\s]+$/i;

const indentOf = (line) => line.length - line.trimStart().length;
const isBlank = (line) => line.trim() === '';

function kindOf(line, next) {
  if (FENCE.test(line)) return 'code';
  if (HEADING.test(line)) return 'heading';
  if (RULE.test(line)) return 'rule';
  if (/^ {0,3}>/.test(line)) return 'quote';
  if (ITEM.test(line)) return 'list';
  if (line.includes('|') && next !== undefined && next.includes('|') && TABLE_RULE.test(next)) return 'table';
  return 'paragraph';
}

function endOfCode(lines, start) {
  const fence = FENCE.exec(lines[start])[1];
  for (let i = start + 1; i < lines.length; i++) {
    const line = lines[i].trim();
    if (line.startsWith(fence) && line.replaceAll(fence[0], '') === '') return i + 1;
  }
  return lines.length;
}

function endOfList(lines, start) {
  const base = indentOf(lines[start]);
  let end = start + 1;
  for (let i = end; i < lines.length; i++) {
    if (isBlank(lines[i])) continue;
    const inside = indentOf(lines[i]) > base || (ITEM.test(lines[i]) && !RULE.test(lines[i]));
    const lazy = !isBlank(lines[i - 1]) && kindOf(lines[i]) === 'paragraph';
    if (!inside && !lazy) break;
    end = i + 1;
  }
  return end;
}

function endOfBlock(kind, lines, start) {
  if (kind === 'code') return endOfCode(lines, start);
  if (kind === 'heading' || kind === 'rule') return start + 1;
  if (kind === 'list') return endOfList(lines, start);
  let end = start + 1;
  while (end < lines.length && !isBlank(lines[end]) &&
         (kind === 'table' ? lines[end].includes('|') : kindOf(lines[end], lines[end + 1]) === kind)) end++;
  return end;
}

// [{kind, lines}]: only the last blocks change when text is appended.
export function splitBlocks(text) {
  const lines = text.replace(/\r\n?/g, '\n').replaceAll('\t', '    ').split('\n');
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    if (isBlank(lines[i])) { i++; continue; }
    const kind = kindOf(lines[i], lines[i + 1]);
    const end = endOfBlock(kind, lines, i);
    blocks.push({kind, lines: lines.slice(i, end)});
    i = end;
  }
  return blocks;
}

// Finds closing marks; a mark that was looked for in vain is not looked for again.
class InlineScanner {
  constructor(text) {
    this.text = text;
    this.missing = new Set();
  }

  find(mark, from, accepts) {
    if (this.missing.has(mark)) return -1;
    for (let at = this.text.indexOf(mark, from); at >= 0; at = this.text.indexOf(mark, at + 1)) {
      if (accepts(at)) return at;
    }
    this.missing.add(mark);
    return -1;
  }
}

function codeSpan(scanner, at) {
  const {text} = scanner;
  let ticks = at;
  while (text[ticks] === '`') ticks++;
  const mark = text.slice(at, ticks);
  const end = scanner.find(mark, ticks, (i) => text[i - 1] !== '`' && text[i + mark.length] !== '`');
  if (end < 0) return {node: mark, end: ticks};
  let code = text.slice(ticks, end);
  if (code.startsWith(' ') && code.endsWith(' ') && code.trim() !== '') code = code.slice(1, -1);
  return {node: el('code', {}, code), end: end + mark.length};
}

const EMPHASIS = [['***', ['strong', 'em']], ['**', ['strong']], ['__', ['strong']], ['~~', ['del']], ['*', ['em']],
                  ['_', ['em']]];

function emphasis(scanner, at, depth) {
  const {text} = scanner;
  for (const [mark, tags] of EMPHASIS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    const word = (i) => /[\p{L}\p{N}]/u.test(text[i] ?? '');
    if (/\s|^$/.test(text[start] ?? '') || (mark[0] === '_' && word(at - 1))) return null;
    const end = scanner.find(mark, start + 1, (i) => !/\s/.test(text[i - 1]) && text[i + mark.length] !== mark[0] &&
                                                   !(mark[0] === '_' && word(i + mark.length)));
    if (end < 0) continue;
    let node = el(tags.at(-1), {}, ...inlineNodes(text.slice(start, end), depth + 1));
    if (tags.length > 1) node = el(tags[0], {}, node);
    return {node, end: end + mark.length};
  }
  return null;
}

const anchor = (url, ...children) => el('a', {href: url, rel: 'noopener noreferrer nofollow', target: '_blank'}, ...children);

function link(scanner, at, depth) {
  const {text} = scanner;
  const start = text[at] === '!' ? at + 2 : at + 1;
  const middle = scanner.find('](', start, () => true);
  if (middle < 0 || middle - start > 1000) return null;
  const label = text.slice(start, middle);
  const end = scanner.find(')', middle + 2, () => true);
  if (end < 0 || label.includes('\n\n')) return null;
  const url = text.slice(middle + 2, end).trim().replace(/\s+["'].*$/s, '').replace(/^<(.*)>$/s, '$1');
  if (!SAFE_LINK.test(url)) return null;
  return {node: anchor(url, ...inlineNodes(label || url, depth + 1)), end: end + 1};
}

function bareLink(text, at) {
  let url = /^https?:\/\/[^\s<>"'`|]+/.exec(text.slice(at, at + 2000))[0].replace(/[.,;:!?*_]+$/, '');
  if (url.endsWith(')') && !url.includes('(')) url = url.slice(0, -1);
  return {node: anchor(url, url), end: at + url.length};
}

function special(scanner, at, depth) {
  const {text} = scanner;
  const c = text[at];
  if (c === '\\' && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? '')) return {node: text[at + 1], end: at + 2};
  if (c === '`') return codeSpan(scanner, at);
  if (depth >= MAX_DEPTH) return null;
  if (c === '*' || c === '_' || c === '~') return emphasis(scanner, at, depth);
  if (c === '[' || (c === '!' && text[at + 1] === '[')) return link(scanner, at, depth);
  if (c === 'h' && /^https?:\/\/[^\s<>"'`|.,;:!?*_)]/.test(text.slice(at, at + 12))) return bareLink(text, at);
  return null;
}

// Text and elements; line ends stay, the style shows them.
export function inlineNodes(text, depth = 0) {
  const scanner = new InlineScanner(text);
  const nodes = [];
  let plain = '';
  for (let i = 0; i < text.length;) {
    const found = special(scanner, i, depth);
    if (found === null) {
      plain += text[i++];
      continue;
    }
    i = found.end;
    if (typeof found.node === 'string') {
      plain += found.node;
    } else {
      if (plain) nodes.push(plain);
      plain = '';
      nodes.push(found.node);
    }
  }
  if (plain) nodes.push(plain);
  return nodes;
}

function codeText(lines) {
  const fence = FENCE.exec(lines[0])[1];
  const last = lines.at(-1).trim();
  const closed = lines.length > 1 && last.startsWith(fence) && last.replaceAll(fence[0], '') === '';
  return lines.slice(1, closed ? -1 : undefined).join('\n');
}

function codeBlock(lines) {
  const language = FENCE.exec(lines[0])[2].trim().split(/\s/)[0];
  const code = el('code', {}, codeText(lines));
  return el('div', {class: 'code-block', role: 'group', 'aria-label': language ? `Code, ${language}` : 'Code'},
            el('div', {class: 'code-head'}, el('span', {}, language || 'code'), copyButton('Copy code', () => code.textContent)),
            el('pre', {tabindex: '0'}, code));
}

function list(lines, depth) {
  const base = indentOf(lines[0]);
  const ordered = /\d/.test(ITEM.exec(lines[0])[2]);
  const element = el(ordered ? 'ol' : 'ul', {start: ordered ? String(parseInt(ITEM.exec(lines[0])[2], 10)) : null});
  for (let i = 0; i < lines.length;) {
    const marker = ITEM.exec(lines[i]);
    const width = marker ? Math.min(marker[0].length, base + 5) : 0;
    let end = i + 1;
    while (end < lines.length && !(ITEM.test(lines[end]) && indentOf(lines[end]) <= base + 1)) end++;
    const rest = lines.slice(i + 1, end).map((line) => line.slice(Math.min(indentOf(line), width)));
    const content = [lines[i].slice(width), ...rest].join('\n');
    const blocks = splitBlocks(content);
    const first = blocks[0]?.kind === 'paragraph' ? inlineNodes(blocks.shift().lines.join('\n')) : [];
    element.append(el('li', {}, ...first, ...blocks.map((block) => blockElement(block, depth + 1))));
    i = end;
  }
  return element;
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());
  const row = (line, tag) => el('tr', {}, ...cells(line).map((cell) => el(tag, {}, ...inlineNodes(cell))));
  return el('div', {class: 'table-frame', tabindex: '0', role: 'group', 'aria-label': 'Table'},
            el('table', {}, el('thead', {}, row(lines[0], 'th')),
               el('tbody', {}, ...lines.slice(2).map((line) => row(line, 'td')))));
}

// A level may follow only the one before it, for those who move from heading to heading; the looks are as written.
function heading({lines, level}) {
  const [, marks, title] = HEADING.exec(lines[0]);
  return el(level ? `h${level}` : 'p', {class: `heading heading-${marks.length}`},
            ...inlineNodes(title.replace(/\s#+\s*$/, '')));
}

function blockElement(block, depth = 0) {
  const {kind, lines} = block;
  if (depth >= MAX_DEPTH) return el('p', {}, lines.join('\n'));
  switch (kind) {
    case 'code': return codeBlock(lines);
    case 'rule': return el('hr');
    case 'table': return table(lines);
    case 'list': return list(lines, depth);
    case 'heading': return heading(block);
    case 'quote': {
      const inner = splitBlocks(lines.map((line) => line.replace(/^ {0,3}> ?/, '')).join('\n'));
      return el('blockquote', {}, ...inner.map((block) => blockElement(block, depth + 1)));
    }
    default: return el('p', {}, ...inlineNodes(lines.map((line) => line.trimStart()).join('\n')));
  }
}

// Shows a text that grows: what is already there and has not changed stays as it is, with its selection and scrolling.
export class MarkdownView {
  constructor(element) {
    this.element = element;
    this.blocks = [];
  }

  update(text) {
    const blocks = splitBlocks(text).map((block) => ({...block, source: block.lines.join('\n')}));
    let level = 1;
    blocks.forEach((block, i) => {
      const old = this.blocks[i];
      block.node = old?.node;
      if (block.kind === 'heading') block.level = level = Math.min(HEADING.exec(block.lines[0])[1].length + 1, level + 1);
      if (old?.kind === block.kind && old.source === block.source && old.level === block.level) return;
      if (old?.kind === 'code' && block.kind === 'code' && old.lines[0] === block.lines[0]) {
        old.node.querySelector('code').textContent = codeText(block.lines);
        return;
      }
      block.node = blockElement(block);
      if (old) old.node.replaceWith(block.node);
      else this.element.append(block.node);
    });
    this.blocks.slice(blocks.length).forEach((block) => block.node.remove());
    this.blocks = blocks;
  }
}
