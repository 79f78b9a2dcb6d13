// The data of the page, elements made of text, and the trials that are selected, which all parts of the page show.

const DATA = JSON.parse(document.getElementById('data').textContent);
for (const column of DATA.tables.flatMap((table) => table.columns)) column.cells ??= column.codes.map((code) => column.texts[code]);
const MOST_CHIPS = 12;

/** An element with attributes and children; text is always text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => child.nodeType ? child : String(child)));
  return made;
}

/** A trial's name: its number, or on a page of several studies its study, too. */
function trialName(trial) {
  return DATA.names?.[trial] ?? `trial ${trial}`;
}

/** A number for reading: four significant digits, whole numbers as they are. */
function shortNumber(value) {
  if (Number.isInteger(value)) return Math.abs(value) < 1e15 ? String(value) : value.toExponential(3);
  const whole = Math.abs(value) >= 1e3 && Math.abs(value) < 1e7;
  return String(whole ? Math.round(value) : Number(value.toPrecision(4)));
}

const selected = new Set();
const watchers = [];

function onSelection(watcher) {
  watchers.push(watcher);
}

/** Select these trials: instead of the others, or, with `add`, beside them; those that all were selected are dropped. */
function select(trials, add = false) {
  const known = trials.filter((trial) => Number.isInteger(trial));
  const drop = known.length > 0 && known.every((trial) => selected.has(trial)) && (add || selected.size === known.length);
  if (!add) selected.clear();
  for (const trial of known) {
    if (drop) selected.delete(trial);
    else selected.add(trial);
  }
  for (const watcher of watchers) watcher();
}

/** As the plots take it: null where nothing is selected, else true by trial. */
function selectedByTrial() {
  return selected.size ? Object.fromEntries([...selected].map((trial) => [trial, true])) : null;
}

function showSelection() {
  const bar = document.getElementById('selection');
  bar.hidden = selected.size === 0;
  if (bar.hidden) return;
  const trials = [...selected].sort((left, right) => left - right);
  const chips = trials.slice(0, MOST_CHIPS).map((trial) =>
    element('button', {type: 'button', class: 'chip', title: `open ${trialName(trial)}`, onclick: () => openTrial(trial)}, trialName(trial)));
  const more = trials.length - chips.length;
  bar.replaceChildren(
    element('span', {class: 'label'}, trials.length === 1 ? 'Selected' : `${trials.length} selected`),
    element('span', {class: 'chips'}, ...chips, more > 0 ? element('span', {class: 'more'}, `and ${more} more`) : null),
    element('button', {type: 'button', class: 'clear', onclick: () => select([])}, 'Clear'),
  );
}
