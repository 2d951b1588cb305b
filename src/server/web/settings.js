// The dialogs: settings of the shown conversation, and facts about model, server and cache.

import {parseTools} from './conversation.js';
import {byId, count, el} from './dom.js';
import {apiKey, saveApiKey} from './storage.js';

const TEXT_FIELDS = ['system', 'temperature', 'top_p', 'max_tokens', 'seed', 'tools'];

// A reason, or nothing.
function problemOf(name, value) {
  if (name === 'tools') {
    try {
      parseTools(value);
    } catch (error) {
      return error.message;
    }
  }
  if (name === 'seed' && value !== '' && !(/^-?\d+$/.test(value) && Number.isSafeInteger(Number(value)))) {
    return 'expected a whole number of at most 15 digits';
  }
  return '';
}

export class SettingsDialog {
  // save(settings) is called with the new settings.
  constructor(save) {
    this.dialog = byId('settings');
    this.form = byId('settings-form');
    this.save = save;
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.submit();
    });
    for (const name of TEXT_FIELDS) {
      this.field(name).addEventListener('input', (event) => event.target.setCustomValidity(''));
    }
    byId('settings-cancel').addEventListener('click', () => this.dialog.close());
  }

  field(name) {
    return this.form.elements[name];
  }

  open(settings) {
    for (const name of TEXT_FIELDS) {
      this.field(name).value = settings[name];
      this.field(name).setCustomValidity('');
    }
    this.field('open_thinking').checked = settings.open_thinking;
    this.field('api_key').value = apiKey();
    this.showProblem('tools', '');
    this.dialog.showModal();
    this.field('system').focus();
  }

  showProblem(name, problem) {
    if (name !== 'tools') return;
    const line = byId('tools-problem');
    line.textContent = problem && `Tools: ${problem}`;
    this.field('tools').setAttribute('aria-invalid', String(problem !== ''));
  }

  submit() {
    const settings = {open_thinking: this.field('open_thinking').checked};
    for (const name of TEXT_FIELDS) {
      const field = this.field(name);
      settings[name] = name === 'system' || name === 'tools' ? field.value : field.value.trim();
      const problem = problemOf(name, settings[name]);
      this.showProblem(name, problem);
      field.setCustomValidity(problem);
      if (problem) {
        field.reportValidity();
        return;
      }
    }
    saveApiKey(this.field('api_key').value.trim());
    this.dialog.close();
    this.save(settings);
  }
}

// Scalars of a JSON value as [name, text], nested names joined.
function scalars(value, prefix = '') {
  return Object.entries(value).flatMap(([key, item]) => {
    const name = (prefix ? `${prefix} ` : '') + key.replaceAll('_', ' ');
    if (item !== null && typeof item === 'object') return Array.isArray(item) || prefix.includes(' ') ? [] : scalars(item, name);
    if (item === null || String(item).length > 200) return [];
    return [[name, typeof item === 'number' ? count(item) : String(item)]];
  });
}

function cacheFacts(conversation) {
  const answers = Object.values(conversation.nodes).filter((node) => node.usage);
  const sum = (key) => answers.reduce((total, node) => total + node.usage[key], 0);
  const prompt = sum('prompt');
  if (prompt === 0) return [];
  return [['answers', count(answers.length)], ['prompt tokens', count(prompt)],
          ['taken from the cache', `${count(sum('cached'))} (${Math.round((sum('cached') * 100) / prompt)} %)`],
          ['tokens written', count(sum('completion'))], ['of these thinking', count(sum('reasoning'))]];
}

const facts = (title, rows) => rows.length === 0 ? [] :
  [el('h3', {}, title), el('dl', {}, ...rows.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]))];

export function openFacts(model, properties, conversation) {
  const rows = model ? [['id', model.id], ['name', model.name ?? model.id]] : [];
  if (model?.context_length) rows.push(['context', `${count(model.context_length)} tokens`]);
  if (model?.top_provider?.max_completion_tokens) {
    rows.push(['longest answer', `${count(model.top_provider.max_completion_tokens)} tokens`]);
  }
  byId('facts-body').replaceChildren(...facts('Model', rows), ...facts('This conversation', cacheFacts(conversation)),
                                     ...facts('Server', properties ? scalars(properties) : []));
  byId('facts').showModal();
}
