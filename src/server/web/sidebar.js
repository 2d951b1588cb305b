// The list of conversations: open, rename in place, delete.

import {titleOf} from './conversation.js';
import {byId, el, iconButton} from './dom.js';

export class Sidebar {
  // actions: open(id), rename(id, title), remove(id).
  constructor(actions) {
    this.actions = actions;
    this.list = byId('conversation-list');
  }

  render(conversations, currentId, isRunning) {
    const focusedId = this.list.contains(document.activeElement) ? document.activeElement.closest('li')?.dataset.id : null;
    this.list.replaceChildren(...conversations.map((conversation) => this.item(conversation, currentId, isRunning)));
    if (focusedId) this.list.querySelector(`li[data-id="${CSS.escape(focusedId)}"] .open-button`)?.focus();
  }

  item(conversation, currentId, isRunning) {
    const {id} = conversation;
    const title = titleOf(conversation);
    const open = el('button', {type: 'button', class: 'open-button', 'aria-current': id === currentId ? 'true' : null,
                               onclick: () => this.actions.open(id)},
                    el('span', {class: 'conversation-title'}, title));
    if (isRunning(id)) open.append(el('span', {class: 'running-dot', role: 'img', 'aria-label': 'answering'}));
    const item = el('li', {'data-id': id, class: id === currentId ? 'current' : null});
    item.append(open, iconButton('rename', `Rename “${title}”`, () => this.rename(item, conversation)),
                iconButton('trash', `Delete “${title}”`, () => this.actions.remove(id)));
    return item;
  }

  rename(item, conversation) {
    const field = el('input', {type: 'text', 'aria-label': 'Title', maxlength: '200', value: titleOf(conversation)});
    let done = false;
    const finish = (save) => {
      if (done) return;
      done = true;
      const returnFocus = document.activeElement === field;
      this.actions.rename(conversation.id, save ? field.value.trim() : conversation.title);
      if (returnFocus) this.list.querySelector(`li[data-id="${CSS.escape(conversation.id)}"] .open-button`)?.focus();
    };
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') finish(true);
      if (event.key === 'Escape') {
        event.stopPropagation();
        finish(false);
      }
    });
    field.addEventListener('blur', () => finish(true));
    item.replaceChildren(field);
    field.select();
    field.focus();
  }
}
