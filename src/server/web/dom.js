// Small helpers around the document: elements, icons, numbers as people read them, messages to screen readers.
// Text enters the page only as text nodes and attributes, never as markup.

const SVG = 'http://www.w3.org/2000/svg';
const ICONS = {
  again: 'M19.5 12a7.5 7.5 0 1 1-2.6-5.7M19.5 3.5v4h-4',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  close: 'M6.5 6.5l11 11M17.5 6.5l-11 11',
  copy: 'M9 9h11v11H9zM5.5 15H4V4h11v1.5',
  down: 'M6 9.5l6 6 6-6',
  edit: 'M4 20l1-4.5L15.5 5l3.5 3.5L8.5 19zM13.5 7l3.5 3.5',
  left: 'M14.5 6l-6 6 6 6',
  menu: 'M4 7h16M4 12h16M4 17h16',
  plus: 'M12 5v14M5 12h14',
  right: 'M9.5 6l6 6-6 6',
  rename: 'M5 20h14M7 16l1-4 7.5-7.5 3 3L11 15z',
  send: 'M12 19V5.5M6 11l6-6 6 6',
  sliders: 'M4 8h9M19 8h1M16 5.5v5M4 16h1M11 16h9M8 13.5v5',
  stop: 'M7.5 7.5h9v9h-9z',
  theme: 'M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16',
  tool: 'M14.5 6.5a4 4 0 0 1 5-1l-2.6 2.6 1 1L20.5 6.5a4 4 0 0 1-5.4 5L8 18.6a2 2 0 0 1-2.8-2.8l7-7a4 4 0 0 1 2.3-2.3z',
  trash: 'M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7',
};
const PROPERTIES = new Set(['checked', 'disabled', 'hidden', 'open', 'value']);

// el('button', {class: 'x', onclick: f, 'aria-label': 'y'}, 'text', node): absent (null, false) attributes are left out.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', `icon icon-${name}`);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

// A button that shows only an icon; the label is its name and its tooltip.
export function iconButton(name, label, onclick, attributes = {}) {
  return el('button', {type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...attributes},
            icon(name));
}

export const byId = (id) => document.getElementById(id);

export const count = (number) => number.toLocaleString('en-US');

export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? '' : 's'}`;
}

export function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const value = milliseconds / 1000;
  return value < 10 ? `${value.toFixed(1)} s` : `${Math.round(value)} s`;
}

// Speaks through the polite live region; the same text twice is spoken twice.
export function announce(text) {
  const region = byId('announcer');
  region.textContent = '';
  requestAnimationFrame(() => { region.textContent = text; });
}

let toastTimer = 0;
// A short note at the foot of the page with at most one thing to do about it.
export function toast(text, action = null) {
  const region = byId('toast');
  const hide = () => { region.hidden = true; };
  clearTimeout(toastTimer);
  region.replaceChildren(el('span', {}, text));
  if (action) {
    region.append(el('button', {type: 'button', class: 'link', onclick: () => { hide(); action.run(); }}, action.label));
  }
  region.append(iconButton('close', 'Dismiss', hide));
  region.hidden = false;
  toastTimer = setTimeout(hide, 12000);
}

// The clipboard interface exists on HTTPS and on this machine only.
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = el('textarea', {class: 'offscreen', value: text, 'aria-hidden': 'true'});
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
  focused?.focus();
}

export function copyButton(label, text) {
  const button = iconButton('copy', label, async () => {
    await copyText(text());
    button.replaceChildren(icon('check'));
    announce('Copied');
    setTimeout(() => button.replaceChildren(icon('copy')), 1500);
  });
  return button;
}
