// What outlives the page, in this browser only: conversations (one entry each) and settings. The API key lasts as long
// as its tab and is never exported.

import {DEFAULT_SETTINGS} from './conversation.js';

const PREFIX = 'ds4.conversation.';

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

// False when the browser keeps nothing (full, or forbidden).
function write(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

// Newest first.
export function loadConversations() {
  const found = [];
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i);
    if (!key.startsWith(PREFIX)) continue;
    const conversation = read(key);
    if (conversation?.nodes && conversation.children?.root && conversation.settings) found.push(conversation);
  }
  return found.sort((a, b) => b.updated - a.updated);
}

export const saveConversation = (conversation) => write(PREFIX + conversation.id, conversation);
export const deleteConversation = (id) => localStorage.removeItem(PREFIX + id);

export const loadSettings = () => ({...DEFAULT_SETTINGS, ...read('ds4.settings')});
export const saveSettings = (settings) => write('ds4.settings', settings);

export const loadChoice = (name) => read(`ds4.${name}`);
export const saveChoice = (name, value) => write(`ds4.${name}`, value);

export const apiKey = () => sessionStorage.getItem('ds4.api_key') ?? '';
export const saveApiKey = (key) => sessionStorage.setItem('ds4.api_key', key);
