// How one message looks: the text, thinking, tool calls and their results, errors, and what can be done with it.
// An action is a function that app.js gives; a view changes nothing by itself.

import {siblings} from './conversation.js';
import {copyButton, count, duration, el, icon, iconButton, plural} from './dom.js';
import {MarkdownView} from './markdown.js';

function branchNav(conversation, node, actions) {
  const all = siblings(conversation, node);
  if (all.length < 2) return null;
  const at = all.indexOf(node.id);
  const go = (step) => {
    const id = all[at + step];
    if (id) actions.choose(id, step);
  };
  const onkeydown = (event) => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    event.preventDefault();
    go(event.key === 'ArrowLeft' ? -1 : 1);
  };
  return el('div', {class: 'branches', role: 'group', 'aria-label': 'Versions of this message', onkeydown},
            iconButton('left', 'Previous version', () => go(-1), {'aria-disabled': at === 0 ? 'true' : null}),
            el('span', {class: 'branch-count'}, `${at + 1} / ${all.length}`),
            iconButton('right', 'Next version', () => go(1), {'aria-disabled': at + 1 === all.length ? 'true' : null}));
}

export function submitOnEnter(event, submit) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit();
}

export function growWithText(area) {
  const grow = () => {
    area.style.height = 'auto';
    area.style.height = `${area.scrollHeight + 2}px`;
  };
  area.addEventListener('input', grow);
  requestAnimationFrame(grow);
  return grow;
}

// Shows an editor in place of `body`; `done` gets the new text.
function openEditor(article, body, text, {label, verb}, done) {
  const area = el('textarea', {'aria-label': label, rows: '1', value: text});
  const close = () => {
    form.replaceWith(body);
    article.querySelector('.edit-button')?.focus();
  };
  const submit = () => {
    if (area.value.trim()) done(area.value);
  };
  const form = el('form', {class: 'editor', onsubmit: (event) => { event.preventDefault(); submit(); }}, area,
                  el('div', {class: 'row'}, el('button', {type: 'submit', class: 'button primary'}, verb),
                     el('button', {type: 'button', class: 'button', onclick: close}, 'Cancel'),
                     el('span', {class: 'hint'}, 'The old version stays.')));
  area.addEventListener('keydown', (event) => {
    submitOnEnter(event, submit);
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    }
  });
  body.replaceWith(form);
  growWithText(area);
  area.focus();
}

export function userView(conversation, node, actions) {
  const body = el('div', {class: 'user-text'}, node.content);
  const article = el('article', {class: 'message user', 'aria-label': 'You', 'data-id': node.id});
  const edit = () => openEditor(article, body, node.content, {label: 'Edit message', verb: 'Send'},
                                (text) => actions.edit(node, text));
  article.append(body, el('footer', {class: 'message-foot'},
                          iconButton('edit', 'Edit message', edit, {class: 'icon-button edit-button'}),
                          copyButton('Copy message', () => node.content), branchNav(conversation, node, actions)));
  return {element: article};
}

export function toolView(conversation, node, actions, callName) {
  const body = el('pre', {class: 'result', tabindex: '0'}, node.content);
  const article = el('article', {class: 'message tool', 'aria-label': `Result of ${callName}`, 'data-id': node.id});
  const edit = () => openEditor(article, body, node.content, {label: 'Edit result', verb: 'Send'},
                                (text) => actions.edit(node, text));
  const foot = el('div', {class: 'message-foot'}, branchNav(conversation, node, actions),
                  iconButton('edit', 'Edit result', edit, {class: 'icon-button edit-button'}));
  article.append(el('div', {class: 'card-head'}, icon('check'), el('span', {}, 'Result of ', el('b', {}, callName)), foot),
                 body);
  return {element: article};
}

const indented = (source) => {
  try {
    return JSON.stringify(JSON.parse(source), null, 2);
  } catch {
    return source;
  }
};

// Small integers and long numbers look the same before and after; others would lose digits, so they stay as they came.
const shownArguments = (source) => (/\d{16}|\d[eE]/.test(source) ? source : indented(source));

function callCard(call) {
  return el('div', {class: 'call', role: 'group', 'aria-label': `Tool call: ${call.name}`},
            el('div', {class: 'card-head'}, icon('tool'), el('span', {}, 'Calls ', el('b', {}, call.name))),
            el('pre', {tabindex: '0'}, shownArguments(call.arguments)));
}

function resultForm(calls, send) {
  const areas = calls.map((call) => el('textarea', {rows: '2', required: true, id: `result-${call.id}`,
                                                    placeholder: 'What the tool returns, for example {"ok": true}'}));
  const submit = (event) => {
    event.preventDefault();
    send(calls.map((call, i) => ({id: call.id, content: areas[i].value})));
  };
  return el('form', {class: 'result-form', onsubmit: submit},
            ...calls.flatMap((call, i) => [el('label', {for: `result-${call.id}`}, 'Result of ', el('b', {}, call.name)),
                                           areas[i]]),
            el('div', {class: 'row'},
               el('button', {type: 'submit', class: 'button primary'}, calls.length > 1 ? 'Send results' : 'Send result')));
}

// Asks for the API key; `saved` gets it.
export function keyForm(saved) {
  const field = el('input', {type: 'password', id: 'key-field', autocomplete: 'off', required: true});
  const submit = (event) => {
    event.preventDefault();
    saved(field.value.trim());
  };
  return el('form', {class: 'key-form', onsubmit: submit}, el('label', {for: 'key-field'}, 'API key'), field,
            el('button', {type: 'submit', class: 'button primary'}, 'Save and retry'),
            el('span', {class: 'hint'}, 'Kept until this tab is closed.'));
}

function errorTitle({status, code}) {
  if (code === 'context_length_exceeded') return 'This conversation is too long for the model';
  if (code === 'unreachable') return 'No connection';
  if (code === 'cut_off') return 'The answer broke off';
  if (status === 401) return 'The server asks for an API key';
  if (status === 429) return 'The server is busy';
  if (status === 503) return 'The server cannot answer now';
  return 'Something went wrong';
}

function errorAdvice({code, promptTokens, contextTokens, status, retryAfter}) {
  if (code === 'context_length_exceeded') {
    const numbers = promptTokens ? `The prompt has ${count(promptTokens)} tokens, the context ${count(contextTokens)}. ` : '';
    return `${numbers}Edit an earlier message to go on from there, or start a new conversation.`;
  }
  if (status === 429 && retryAfter) return `Try again in ${plural(retryAfter, 'second')} or later.`;
  return '';
}

function errorCard(node, actions) {
  const {error} = node;
  const advice = errorAdvice(error);
  const isKey = error.status === 401;
  const retry = el('button', {type: 'button', class: 'button', onclick: () => actions.retry(node)}, icon('again'), 'Retry');
  return el('div', {class: `error-card${isKey ? ' asks' : ''}`, role: 'alert'}, el('strong', {}, errorTitle(error)),
            error.promptTokens ? null : el('p', {}, error.message), advice && el('p', {}, advice),
            isKey ? keyForm((key) => actions.saveKey(key, node)) : el('div', {class: 'row'}, retry));
}

function statistics({usage, timing, finish}) {
  if (!usage || !timing) return finish === 'stopped' ? 'Stopped' : finish ? '' : 'Interrupted';
  const writing = timing.total - timing.first;
  const parts = [];
  const rate = ((usage.completion - 1) * 1000) / writing;
  if (usage.completion > 1 && writing > 0) parts.push(`${rate < 100 ? rate.toFixed(1) : count(Math.round(rate))} tok/s`);
  parts.push(plural(usage.completion, 'token'), `first after ${duration(timing.first)}`);
  if (usage.prompt > 0) parts.push(`${Math.round((usage.cached * 100) / usage.prompt)} % of ${count(usage.prompt)} cached`);
  if (finish === 'length') parts.push('cut at the token limit');
  return parts.join(' · ');
}

// An answer, also while it comes: update() shows what the message has by now.
export class AnswerView {
  constructor(conversation, node, actions) {
    Object.assign(this, {conversation, node, actions});
    this.thinkingLabel = el('span', {});
    this.thinkingText = el('div', {class: 'markdown quiet'});
    this.thinking = el('details', {class: 'thinking', open: conversation.settings.open_thinking, hidden: true},
                       el('summary', {}, icon('right'), this.thinkingLabel), this.thinkingText);
    this.answer = el('div', {class: 'markdown'});
    this.calls = el('div', {class: 'calls'});
    this.after = el('div', {});
    this.stats = el('span', {class: 'stats'});
    this.copy = copyButton('Copy answer', () => node.content);
    this.buttons = el('div', {class: 'row tight'}, iconButton('again', 'Regenerate answer', () => actions.regenerate(node)),
                      this.copy);
    this.foot = el('footer', {class: 'message-foot'}, this.buttons);
    const nav = branchNav(conversation, node, actions);
    if (nav) this.foot.append(nav);
    this.foot.append(this.stats);
    this.element = el('article', {class: 'message assistant', 'aria-label': 'Answer', 'data-id': node.id}, this.thinking,
                      this.answer, this.calls, this.after, this.foot);
    this.answerMarkdown = new MarkdownView(this.answer);
    this.thinkingMarkdown = new MarkdownView(this.thinkingText);
  }

  // `generation` while it runs, null at rest; `openCalls` are those that wait for a result.
  update(generation, openCalls = []) {
    const {node} = this;
    this.thinking.hidden = !node.reasoning;
    if (node.reasoning) this.thinkingMarkdown.update(node.reasoning);
    this.answerMarkdown.update(node.content);
    this.showCalls();
    this.element.classList.toggle('running', generation !== null);
    this.element.setAttribute('aria-busy', String(generation !== null));
    this.buttons.toggleAttribute('inert', generation !== null);
    this.buttons.hidden = Boolean(node.error && !node.content);
    this.copy.hidden = !node.content;
    if (generation) {
      this.tick(generation);
      return;
    }
    this.thinkingLabel.textContent = this.thoughtFor();
    this.stats.textContent = statistics(node);
    this.after.replaceChildren();
    if (node.error) this.after.append(errorCard(node, this.actions));
    else if (!node.finish) this.after.append(this.interrupted());
    if (openCalls.length) this.after.append(resultForm(openCalls, (results) => this.actions.sendResults(node, results)));
  }

  // The running clocks.
  tick(generation) {
    const {node} = this;
    const isThinking = node.reasoning && !node.content && !node.tool_calls;
    this.thinkingLabel.textContent =
      isThinking ? `Thinking · ${duration(generation.elapsed() - node.timing.first)}` : this.thoughtFor();
    const rate = generation.liveRate();
    const state = !node.timing?.first ? `Reading the prompt · ${duration(generation.elapsed())}`
                                      : `${isThinking ? 'Thinking' : 'Writing'}${rate ? ` · ≈ ${rate.toFixed(0)} tok/s` : ''}`;
    this.stats.textContent = state;
  }

  thoughtFor() {
    const time = this.node.timing?.thinking || (this.node.timing?.total ?? 0) - (this.node.timing?.first ?? 0);
    return time > 0 ? `Thought for ${duration(time)}` : 'Thoughts';
  }

  showCalls() {
    const calls = this.node.tool_calls ?? [];
    const state = JSON.stringify(calls);
    if (state === this.shownCalls) return;
    this.shownCalls = state;
    this.calls.replaceChildren(...calls.filter(Boolean).map(callCard));
  }

  interrupted() {
    return el('div', {class: 'row'}, el('span', {class: 'hint'}, 'This answer was interrupted.'),
              el('button', {type: 'button', class: 'button', onclick: () => this.actions.retry(this.node)}, icon('again'),
                 'Retry'));
  }
}
