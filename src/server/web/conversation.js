// A conversation is a tree of messages: editing or regenerating adds a sibling, and `chosen` says which child is shown.
// Plain data and functions without the document, so that a conversation is what its JSON says.

export const ROOT = 'root';
export const DEFAULT_SETTINGS = Object.freeze({
  system: '', temperature: '', top_p: '', max_tokens: '', effort: '', seed: '', tools: '', open_thinking: false,
});
const EXPORT_FORMAT = 'ds4-conversations';

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36).padStart(2, '0')).join('');

export function newConversation(settings) {
  return {id: newId(), title: '', updated: Date.now(), settings: {...DEFAULT_SETTINGS, ...settings}, nodes: {},
          children: {[ROOT]: []}, chosen: {}};
}

// Adds a message below `parent` and shows it. Roles: user, assistant, tool.
export function addNode(conversation, parent, fields) {
  const node = {id: newId(), parent, content: '', ...fields};
  conversation.nodes[node.id] = node;
  conversation.children[node.id] = [];
  conversation.children[parent].push(node.id);
  conversation.chosen[parent] = node.id;
  conversation.updated = Date.now();
  return node;
}

export const siblings = (conversation, node) => conversation.children[node.parent];

export function choose(conversation, id) {
  conversation.chosen[conversation.nodes[id].parent] = id;
}

// Removes a message that has nothing below it.
export function removeLeaf(conversation, node) {
  const rest = siblings(conversation, node).filter((id) => id !== node.id);
  conversation.children[node.parent] = rest;
  conversation.chosen[node.parent] = rest.at(-1);
  delete conversation.children[node.id];
  delete conversation.nodes[node.id];
}

// The shown messages, first to last.
export function shownPath(conversation) {
  const path = [];
  for (let at = ROOT; conversation.children[at].length > 0; at = path.at(-1).id) {
    path.push(conversation.nodes[conversation.chosen[at] ?? conversation.children[at].at(-1)]);
  }
  return path;
}

export function pathTo(conversation, id) {
  const path = [];
  for (let at = id; at !== ROOT; at = conversation.nodes[at].parent) path.unshift(conversation.nodes[at]);
  return path;
}

// Calls of the last answer that have no result yet.
export function openCalls(conversation) {
  const path = shownPath(conversation);
  const at = path.findLastIndex((node) => node.role === 'assistant');
  if (at < 0 || path.slice(at + 1).some((node) => node.role !== 'tool')) return [];
  const answered = new Set(path.slice(at + 1).map((node) => node.tool_call_id));
  return (path[at].tool_calls ?? []).filter((call) => !answered.has(call.id));
}

function assistantMessage(node) {
  const message = {role: 'assistant', content: node.content};
  if (node.reasoning) message.reasoning_content = node.reasoning;
  if (node.tool_calls?.length) {
    message.tool_calls = node.tool_calls.map(({id, name, arguments: text}) =>
      ({id, type: 'function', function: {name, arguments: text}}));
  }
  return message;
}

// What the API gets: an answer that failed before its first word is left out.
export function toMessages(conversation, lastId) {
  const messages = [];
  if (conversation.settings.system.trim()) messages.push({role: 'system', content: conversation.settings.system});
  for (const node of pathTo(conversation, lastId)) {
    if (node.role === 'user') messages.push({role: 'user', content: node.content});
    else if (node.role === 'tool') messages.push({role: 'tool', tool_call_id: node.tool_call_id, content: node.content});
    else if (node.content || node.reasoning || node.tool_calls?.length) messages.push(assistantMessage(node));
  }
  return messages;
}

// [{type: 'function', function: {...}}] from a text with that, or with the bare functions. Throws with a reason.
export function parseTools(text) {
  if (!text.trim()) return [];
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (error) {
    throw new Error(`not valid JSON: ${error.message}`);
  }
  if (!Array.isArray(tools)) throw new Error('expected a JSON array of functions');
  return tools.map((tool, i) => {
    const definition = tool?.function ?? tool;
    if (typeof definition?.name !== 'string' || !definition.name) throw new Error(`function ${i + 1} has no name`);
    return {type: 'function', function: definition};
  });
}

export function requestBody(conversation, lastId, model) {
  const {settings} = conversation;
  const body = {model, messages: toMessages(conversation, lastId), stream: true, stream_options: {include_usage: true}};
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed']) {
    if (settings[name] !== '') body[name] = Number(settings[name]);
  }
  if (settings.effort) body.reasoning_effort = settings.effort;
  const tools = parseTools(settings.tools);
  if (tools.length) body.tools = tools;
  return body;
}

export const titleOf = (conversation) => conversation.title || firstWords(conversation) || 'New conversation';

function firstWords(conversation) {
  const first = conversation.nodes[conversation.chosen[ROOT] ?? conversation.children[ROOT].at(-1)];
  const text = (first?.content ?? '').replace(/\s+/g, ' ').trim();
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

export function exportJson(conversations) {
  return JSON.stringify({format: EXPORT_FORMAT, version: 1, conversations}, null, 1);
}

const text = (value) => (typeof value === 'string' ? value : '');
const number = (value) => (Number.isFinite(value) ? value : 0);
const record = (value) => (value && typeof value === 'object' ? value : {});

function importNode(value) {
  const node = {role: value.role, content: text(value.content)};
  if (node.role === 'tool') node.tool_call_id = text(value.tool_call_id);
  if (node.role !== 'assistant') return node;
  node.reasoning = text(value.reasoning);
  node.model = text(value.model);
  node.finish = text(value.finish);
  if (Array.isArray(value.tool_calls)) {
    node.tool_calls = value.tool_calls.map((call) =>
      ({id: text(call?.id), name: text(call?.name), arguments: text(call?.arguments)}));
  }
  if (value.usage && value.timing) {
    node.usage = {};
    node.timing = {};
    for (const key of ['prompt', 'cached', 'completion', 'reasoning']) node.usage[key] = number(value.usage[key]);
    for (const key of ['first', 'thinking', 'total']) node.timing[key] = number(value.timing[key]);
  }
  return node;
}

// Takes only the known fields of the right types, and gives every message a new id.
function importOne(value) {
  const settings = Object.fromEntries(Object.entries(DEFAULT_SETTINGS).map(([key, absent]) =>
    [key, typeof value?.settings?.[key] === typeof absent ? value.settings[key] : absent]));
  const conversation = newConversation(settings);
  conversation.title = text(value?.title).slice(0, 200);
  const queue = [[ROOT, ROOT]];
  const seen = new Set();
  for (const [oldParent, parent] of queue) {
    const children = record(value?.children)[oldParent];
    const chosen = record(value?.chosen)[oldParent];
    let chosenId;
    for (const oldId of Array.isArray(children) ? children : []) {
      const old = Object.hasOwn(record(value.nodes), oldId) ? value.nodes[oldId] : null;
      if (seen.has(oldId) || !['user', 'assistant', 'tool'].includes(old?.role)) continue;
      seen.add(oldId);
      const node = addNode(conversation, parent, importNode(old));
      if (oldId === chosen) chosenId = node.id;
      queue.push([oldId, node.id]);
    }
    if (chosenId) conversation.chosen[parent] = chosenId;
  }
  if (Number.isFinite(value?.updated)) conversation.updated = value.updated;
  return conversation;
}

// The conversations of an export. Throws with a reason.
export function importJson(source) {
  let data;
  try {
    data = JSON.parse(source);
  } catch {
    throw new Error('this file is not JSON');
  }
  if (data?.format !== EXPORT_FORMAT || !Array.isArray(data.conversations)) {
    throw new Error('this file holds no exported conversations');
  }
  return data.conversations.map(importOne);
}
