// The page: holds the conversations, shows one, and turns what the user does into changes of it.

import {fetchModel, fetchProperties} from './client.js';
import {ROOT, addNode, choose, exportJson, importJson, newConversation, openCalls, removeLeaf, shownPath, siblings,
        titleOf} from './conversation.js';
import {announce, byId, count, el, icon, toast} from './dom.js';
import {Generation} from './generation.js';
import {AnswerView, growWithText, keyForm, submitOnEnter, toolView, userView} from './message_view.js';
import {SettingsDialog, openFacts} from './settings.js';
import {Sidebar} from './sidebar.js';
import {deleteConversation, loadChoice, loadConversations, loadSettings, saveApiKey, saveChoice, saveConversation,
        saveSettings} from './storage.js';

const EXAMPLES = ['Which city is the capital of France?', 'What is 185 minus 84?', 'Sort these words: pear, fig, apple, plum'];
const SAVE_EVERY_MS = 1000;
const CLOCK_MS = 250;
const NEAR_BOTTOM_PX = 32;
const THEMES = ['system', 'light', 'dark'];

class Page {
  constructor() {
    this.all = loadConversations();
    this.running = new Map();  // conversation id -> Generation
    this.model = null;
    this.live = null;  // the AnswerView of the shown running answer
    this.frame = 0;
    this.savedAt = 0;
    this.followsEnd = true;
    this.input = byId('input');
    this.scroller = byId('scroller');
    this.sidebar = new Sidebar({
      open: (id) => this.openConversation(id),
      rename: (id, title) => this.rename(id, title),
      remove: (id) => this.remove(id),
    });
    this.settings = new SettingsDialog((settings) => this.changeSettings(settings));
    this.actions = {
      choose: (id, step) => this.chooseBranch(id, step),
      edit: (node, text) => this.editMessage(node, text),
      regenerate: (node) => this.answer(node.parent),
      retry: (node) => this.retry(node),
      saveKey: (key, node) => this.useKey(key, () => this.retry(node)),
      sendResults: (node, results) => this.sendResults(node, results),
    };
    this.listen();
    this.applyTheme(loadChoice('theme') ?? 'system');
    this.current = this.all.find(({id}) => id === loadChoice('current')) ?? newConversation(loadSettings());
    this.render();
    this.input.focus();
    this.connect();
    setInterval(() => this.tick(), CLOCK_MS);
  }

  listen() {
    const on = (id, handler) => byId(id).addEventListener('click', handler);
    on('new', () => this.startNew());
    on('open-settings', () => this.settings.open(this.current.settings));
    on('open-facts', () => this.showFacts());
    on('facts-close', () => byId('facts').close());
    on('theme', () => this.nextTheme());
    on('menu', () => this.toggleDrawer(true));
    on('shade', () => this.toggleDrawer(false));
    on('export', () => this.exportAll());
    on('import', () => byId('import-file').click());
    on('to-end', () => this.scrollToEnd());
    on('stop', () => this.stop());
    byId('import-file').addEventListener('change', (event) => this.importFile(event.target));
    byId('effort').addEventListener('change', (event) => this.changeSettings({effort: event.target.value}));
    byId('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      this.send();
    });
    this.growInput = growWithText(this.input);
    this.input.addEventListener('keydown', (event) => {
      submitOnEnter(event, () => this.send());
      if (event.key === 'ArrowUp' && this.input.value === '') this.editLast(event);
    });
    this.scroller.addEventListener('scroll', () => this.noteScroll(), {passive: true});
    document.addEventListener('keydown', (event) => this.onKey(event));
    window.addEventListener('pagehide', () => this.leave());
    window.addEventListener('pageshow', () => { this.isLeaving = false; });
    window.addEventListener('storage', () => this.readAgain());
    window.addEventListener('resize', () => this.updateDrawer());
    this.updateDrawer();
  }

  onKey(event) {
    if (event.key !== 'Escape' || event.defaultPrevented || document.querySelector('dialog[open]')) return;
    if (document.body.classList.contains('drawer-open')) this.toggleDrawer(false);
    else if (this.running.has(this.current.id)) this.stop();
  }

  // The server.

  async connect() {
    try {
      this.model = await fetchModel();
      byId('model-name').textContent = this.model.id;
      byId('notice').replaceChildren();
    } catch (error) {
      this.showNotice(error);
    }
    this.updateMeter();
    if (this.shown.length === 0) this.renderMessages();
  }

  showNotice(error) {
    const retry = el('button', {type: 'button', class: 'button', onclick: () => this.connect()}, icon('again'), 'Retry');
    const isKey = error.status === 401;
    byId('notice').replaceChildren(
      el('div', {class: `error-card${isKey ? ' asks' : ''}`},
         el('strong', {}, isKey ? 'The server asks for an API key' : 'No connection'),
         el('p', {}, error.message), isKey ? keyForm((key) => this.useKey(key)) : el('div', {class: 'row'}, retry)));
  }

  async useKey(key, then = () => {}) {
    saveApiKey(key);
    await this.connect();
    then();
  }

  async showFacts() {
    openFacts(this.model, await fetchProperties(), this.current);
  }

  // Conversations.

  find(id) {
    return this.running.get(id)?.conversation ?? this.all.find((conversation) => conversation.id === id);
  }

  save(conversation = this.current) {
    if (!this.all.includes(conversation)) this.all.push(conversation);
    this.all.sort((a, b) => b.updated - a.updated);
    if (!saveConversation(conversation)) toast('This browser has no room left: the conversation is not kept.');
    saveChoice('current', this.current.id);
  }

  // Another tab changed something; what runs here stays as it is.
  readAgain() {
    this.all = loadConversations().map((conversation) => this.running.get(conversation.id)?.conversation ?? conversation);
    this.renderSidebar();
  }

  startNew() {
    this.current = newConversation(loadSettings());
    this.openShown();
  }

  openConversation(id) {
    this.current = this.find(id) ?? newConversation(loadSettings());
    saveChoice('current', id);
    this.openShown();
  }

  openShown() {
    this.toggleDrawer(false);
    this.followsEnd = true;
    this.render();
    this.input.focus();
  }

  rename(id, title) {
    const conversation = this.find(id);
    conversation.title = title;
    this.save(conversation);
    this.render();
  }

  remove(id) {
    const conversation = this.find(id);
    this.running.get(id)?.stop();
    this.all = this.all.filter((other) => other !== conversation);
    deleteConversation(id);
    if (this.current === conversation) this.current = newConversation(loadSettings());
    this.render();
    byId('new').focus();
    toast(`Deleted “${titleOf(conversation)}”`, {label: 'Undo', run: () => {
      this.save(conversation);
      this.openConversation(id);
    }});
    announce('Conversation deleted');
  }

  exportAll() {
    const url = URL.createObjectURL(new Blob([exportJson(this.all)], {type: 'application/json'}));
    el('a', {href: url, download: 'conversations.json'}).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async importFile(field) {
    const [file] = field.files;
    field.value = '';
    if (!file) return;
    try {
      const imported = importJson(await file.text());
      imported.forEach((conversation) => this.save(conversation));
      toast(`${count(imported.length)} imported`);
      if (imported.length) this.openConversation(imported[0].id);
    } catch (error) {
      toast(`Nothing was imported: ${error.message}`);
    }
  }

  changeSettings(changed) {
    Object.assign(this.current.settings, changed);
    saveSettings(this.current.settings);
    if (this.all.includes(this.current)) this.save();
  }

  // Messages.

  send(text = this.input.value) {
    if (!text.trim() || this.running.has(this.current.id)) return;
    if (openCalls(this.current).length) {
      toast('The model waits for the result of its call.');
      document.querySelector('.result-form textarea')?.focus();
      return;
    }
    this.input.value = '';
    this.growInput();
    const parent = this.shown.at(-1)?.id ?? ROOT;
    this.answer(addNode(this.current, parent, {role: 'user', content: text}).id);
    this.input.focus();
  }

  // Adds a sibling with the new text and goes on from there. Results of other calls beside it are kept.
  editMessage(node, text) {
    if (this.running.has(this.current.id)) return;
    const after = this.shown.slice(this.shown.indexOf(node) + 1);
    let last = addNode(this.current, node.parent, {role: node.role, tool_call_id: node.tool_call_id, content: text});
    for (const other of after) {
      if (node.role !== 'tool' || other.role !== 'tool') break;
      last = addNode(this.current, last.id, {role: 'tool', tool_call_id: other.tool_call_id, content: other.content});
    }
    this.answer(last.id);
    this.input.focus();
  }

  editLast(event) {
    const buttons = document.querySelectorAll('.user .edit-button');
    if (buttons.length === 0) return;
    event.preventDefault();
    buttons[buttons.length - 1].click();
  }

  sendResults(node, results) {
    let parent = this.shown.at(-1).id;
    for (const {id, content} of results) {
      parent = addNode(this.current, parent, {role: 'tool', tool_call_id: id, content}).id;
    }
    this.answer(parent);
    this.input.focus();
  }

  retry(node) {
    const {parent} = node;
    const isEmpty = !node.content && !node.reasoning && !node.tool_calls?.length;
    if (isEmpty && this.current.children[node.id].length === 0) removeLeaf(this.current, node);
    this.answer(parent);
    this.input.focus();
  }

  chooseBranch(id, step) {
    if (this.running.has(this.current.id)) return;
    choose(this.current, id);
    this.save();
    this.render();
    const node = this.current.nodes[id];
    const buttons = byId('messages').querySelectorAll(`[data-id="${id}"] .branches button`);
    buttons[step < 0 ? 0 : 1]?.focus();
    const all = siblings(this.current, node);
    announce(`Version ${all.indexOf(id) + 1} of ${all.length}`);
  }

  // A new answer below `parent`. Without a model the request is made all the same: it tells what is wrong.
  async answer(parent) {
    const conversation = this.current;
    if (!this.model) await this.connect();
    if (this.running.has(conversation.id)) return;
    const node = addNode(conversation, parent, {role: 'assistant'});
    const generation = new Generation(conversation, node, this.model?.id ?? '', {
      changed: () => this.onProgress(generation),
      ended: () => this.onEnd(generation),
    });
    this.running.set(conversation.id, generation);
    this.save(conversation);
    this.followsEnd = true;
    this.render();
    generation.run();
  }

  stop() {
    this.running.get(this.current.id)?.stop();
  }

  onProgress(generation) {
    if (performance.now() - this.savedAt > SAVE_EVERY_MS) {
      this.savedAt = performance.now();
      saveConversation(generation.conversation);
    }
    if (generation.conversation === this.current && this.frame === 0) {
      this.frame = requestAnimationFrame(() => this.showProgress());
    }
  }

  showProgress() {
    this.frame = 0;
    const generation = this.running.get(this.current.id);
    if (!generation || this.live?.node !== generation.node) return;
    this.live.update(generation);
    this.keepAtEnd();
  }

  // Answers that run are kept as they are; that their streams now break is no failure.
  leave() {
    this.isLeaving = true;
    this.running.forEach(({conversation}) => saveConversation(conversation));
  }

  onEnd(generation) {
    const {conversation, node} = generation;
    if (this.isLeaving) return;
    this.running.delete(conversation.id);
    if (this.all.includes(conversation)) this.save(conversation);
    if (conversation !== this.current) {
      this.renderSidebar();
      return;
    }
    const hadFocus = document.activeElement === byId('stop');
    this.render();
    if (hadFocus) this.input.focus();
    if (!node.error) announce(node.finish === 'stopped' ? 'Stopped' : spokenAnswer(node));
  }

  // What is shown.

  render() {
    this.renderSidebar();
    this.renderMessages();
    this.updateComposer();
    this.updateMeter();
    byId('title').textContent = titleOf(this.current);
    document.title = `${titleOf(this.current)} · ds4`;
  }

  renderSidebar() {
    this.sidebar.render(this.all, this.current.id, (id) => this.running.has(id));
  }

  renderMessages() {
    this.shown = shownPath(this.current);
    this.live = null;
    const generation = this.running.get(this.current.id) ?? null;
    const waiting = generation ? [] : openCalls(this.current);
    const top = this.scroller.scrollTop;
    const views = this.shown.map((node, i) => this.viewOf(node, i, generation, waiting));
    byId('messages').replaceChildren(...views.map(({element}) => element));
    if (views.length === 0) byId('messages').append(this.welcome());
    if (this.followsEnd) this.scrollToEnd();
    else this.scroller.scrollTop = top;
  }

  viewOf(node, i, generation, waiting) {
    if (node.role === 'user') return userView(this.current, node, this.actions);
    if (node.role === 'tool') return toolView(this.current, node, this.actions, this.callName(node, i));
    const view = new AnswerView(this.current, node, this.actions);
    const isLive = generation?.node === node;
    if (isLive) this.live = view;
    const isLastAnswer = !this.shown.slice(i + 1).some((other) => other.role === 'assistant');
    view.update(isLive ? generation : null, isLastAnswer ? waiting : []);
    return view;
  }

  callName(node, i) {
    const calls = this.shown.slice(0, i).findLast((other) => other.role === 'assistant')?.tool_calls ?? [];
    return calls.find((call) => call.id === node.tool_call_id)?.name ?? 'a tool';
  }

  welcome() {
    const facts = this.model ? `${this.model.id} · ${count(this.model.context_length)} tokens of context` : '';
    const example = (text) =>
      el('li', {}, el('button', {type: 'button', class: 'example', onclick: () => this.send(text)}, text));
    return el('section', {class: 'welcome', 'aria-labelledby': 'welcome-title'},
              el('h2', {id: 'welcome-title'}, 'What would you like to know?'), el('p', {class: 'quiet'}, facts),
              el('ul', {class: 'examples'}, ...EXAMPLES.map(example)));
  }

  updateComposer() {
    const isRunning = this.running.has(this.current.id);
    byId('send').hidden = isRunning;
    byId('stop').hidden = !isRunning;
    byId('effort').value = this.current.settings.effort;
  }

  updateMeter() {
    const usage = this.shown.findLast((node) => node.usage)?.usage;
    const limit = this.model?.context_length ?? 0;
    const used = usage ? usage.prompt + usage.completion : 0;
    const meter = byId('meter');
    meter.hidden = limit === 0;
    meter.setAttribute('aria-valuemax', String(limit));
    meter.setAttribute('aria-valuenow', String(Math.min(used, limit)));
    meter.setAttribute('aria-valuetext', `${count(used)} of ${count(limit)} tokens`);
    meter.classList.toggle('nearly-full', used > limit * 0.9);
    byId('meter-text').textContent = `${count(used)} / ${count(limit)}`;
    byId('meter-fill').style.width = `${limit ? Math.min(100, (used * 100) / limit) : 0}%`;
  }

  tick() {
    const generation = this.running.get(this.current.id);
    if (generation && this.live?.node === generation.node) this.live.tick(generation);
  }

  noteScroll() {
    const {scrollHeight, scrollTop, clientHeight} = this.scroller;
    this.followsEnd = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    byId('to-end').hidden = this.followsEnd;
  }

  keepAtEnd() {
    if (this.followsEnd) this.scroller.scrollTop = this.scroller.scrollHeight;
    else byId('to-end').hidden = false;
  }

  scrollToEnd() {
    this.followsEnd = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    byId('to-end').hidden = true;
  }

  // On narrow screens the list of conversations is a drawer.

  isNarrow() {
    return matchMedia('(max-width: 860px)').matches;
  }

  updateDrawer() {
    const isOpen = document.body.classList.contains('drawer-open') && this.isNarrow();
    byId('sidebar').toggleAttribute('inert', this.isNarrow() && !isOpen);
    byId('main').toggleAttribute('inert', isOpen);
    byId('menu').setAttribute('aria-expanded', String(isOpen));
    byId('shade').hidden = !isOpen;
  }

  toggleDrawer(open) {
    const wasOpen = document.body.classList.contains('drawer-open');
    document.body.classList.toggle('drawer-open', open);
    this.updateDrawer();
    if (open) byId('new').focus();
    else if (wasOpen) byId('menu').focus();
  }

  nextTheme() {
    const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
    saveChoice('theme', theme);
    this.applyTheme(theme);
    announce(`Theme: ${theme}`);
  }

  applyTheme(theme) {
    document.documentElement.dataset.theme = THEMES.includes(theme) ? theme : 'system';
    byId('theme-name').textContent = `Theme: ${document.documentElement.dataset.theme}`;
  }
}

// Whole answers are spoken, not their pieces.
function spokenAnswer(node) {
  const calls = (node.tool_calls ?? []).map((call) => `Calls the tool ${call.name}.`).join(' ');
  return `${node.content} ${calls}`.trim();
}

document.querySelectorAll('[data-icon]').forEach((element) => element.prepend(icon(element.dataset.icon)));
new Page();
