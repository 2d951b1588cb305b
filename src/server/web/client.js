// The server as the page sees it: facts about the model, and one streamed chat answer. All failures become one kind of
// error that says what happened in words.

import {apiKey} from './storage.js';

export class RequestFailure extends Error {
  constructor(message, fields = {}) {
    super(message);
    Object.assign(this, {status: 0, code: '', retryAfter: 0}, fields);
  }
}

function headers() {
  return apiKey() ? {Authorization: `Bearer ${apiKey()}`} : {};
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, {...options, headers: {...headers(), ...options.headers}});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new RequestFailure('The server cannot be reached.', {code: 'unreachable'});
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw failureOf(body?.error, response.status, Number(response.headers.get('Retry-After')) || 0);
}

function failureOf(error, status, retryAfter = 0) {
  return new RequestFailure(error?.message ?? `The server answered with status ${status}.`, {
    status, retryAfter, code: error?.code ?? '', promptTokens: error?.n_prompt_tokens, contextTokens: error?.n_ctx,
  });
}

export async function fetchModel() {
  const {data} = await (await request('/v1/models')).json();
  return data[0];
}

// Null where the server does not tell.
export async function fetchProperties() {
  try {
    return await (await request('/props')).json();
  } catch {
    return null;
  }
}

// Yields the JSON values of a stream of server-sent events; {type, data}, data null for "[DONE]".
export async function* readEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let waiting = '';
  try {
    for (;;) {
      const {done, value} = await reader.read();
      waiting += decoder.decode(value ?? new Uint8Array(), {stream: !done});
      const events = waiting.split(/\r?\n\r?\n/);
      waiting = events.pop();
      for (const event of events) {
        const parsed = parseEvent(event);
        if (parsed) yield parsed;
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parseEvent(event) {
  let type = 'message';
  const data = [];
  for (const line of event.split(/\r?\n/)) {
    if (line.startsWith('event:')) type = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''));
  }
  if (data.length === 0) return null;
  const text = data.join('\n');
  return {type, data: text === '[DONE]' ? null : JSON.parse(text)};
}

// Yields the chunks of a chat answer until its end; throws RequestFailure, or AbortError once `signal` was given.
export async function* streamChat(body, signal) {
  const response = await request('/v1/chat/completions', {
    method: 'POST', body: JSON.stringify(body), headers: {'Content-Type': 'application/json'}, signal,
  });
  try {
    for await (const {type, data} of readEvents(response.body)) {
      if (data === null) return;
      if (type === 'error' || data.error) throw failureOf(data.error, 500);
      yield data;
    }
  } catch (error) {
    if (error.name === 'AbortError' || error instanceof RequestFailure) throw error;
    throw new RequestFailure('The connection broke while the answer came.', {code: 'cut_off'});
  }
  throw new RequestFailure('The answer ended before it was complete.', {code: 'cut_off'});
}
