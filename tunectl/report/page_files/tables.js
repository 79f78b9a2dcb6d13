// Tables: sorted by a click on a heading, filtered, with the columns that are chosen; rows are made where they are looked at.

const ALL_AT_ONCE = 200;
const MOST_CELLS = 2400;
const LEAST_ROWS = 50;
const MARGIN = 15;
const MOST_PRINTED = 1000;
const FEWEST_TO_FILTER = 9;
const FEWEST_TO_CHOOSE = 6;
const COLLATOR = new Intl.Collator(undefined, {numeric: true});
const trialOrders = [];

/** What a cell is sorted by, as [rank, value]: numbers or texts, then NaN, then what is missing, whichever the direction. */
function sortKey(cell, numeric) {
  if (cell === null) return [2, 0];
  if (!numeric) return [0, String(cell)];
  const value = typeof cell === 'number' ? cell : {inf: Infinity, '-inf': -Infinity}[cell] ?? Number(cell);
  return Number.isNaN(value) ? [1, 0] : [0, value];
}

/** The rows by a column; where it is the value, trials that are not completed come after the others. */
function sortedRows(table, place, sign) {
  const column = table.columns[place];
  const states = column.name === 'best_value' ? table.columns.find(({name}) => name === 'state') : null;
  const keys = column.cells.map((cell, row) => {
    const [rank, value] = sortKey(cell, column.numeric);
    return [states && states.cells[row] !== 'completed' ? rank + 3 : rank, value];
  });
  const compare = column.numeric
    ? (left, right) => (left < right ? -1 : left > right ? 1 : 0)
    : (left, right) => COLLATOR.compare(left, right);
  const order = Array.from({length: table.rows}, (_, row) => row);
  return order.sort((left, right) => keys[left][0] - keys[right][0] || sign * compare(keys[left][1], keys[right][1]) || left - right);
}

function cellText(cell) {
  if (cell === null) return '';
  return typeof cell === 'number' ? shortNumber(cell) : String(cell);
}

/** The trials in the order of the fullest table of trials, as it is sorted and filtered now. */
function trialsInOrder() {
  const [longest] = [...trialOrders].sort((left, right) => right.rows - left.rows);
  return longest ? longest.trials() : DATA.trials.map(({trial}) => trial);
}

function makeTable(holder) {
  const table = DATA.tables[Number(holder.dataset.table)];
  const ids = table.ofTrials ? table.columns[0].cells : [];
  const sorted = table.sorted ?? {column: -1, sign: 1};
  const state = {
    order: Array.from({length: table.rows}, (_, row) => row), by: sorted.column, sign: sorted.sign, first: 0, height: 27,
    keep: () => true, rows: [], columns: table.columns.map((_, place) => place).filter((place) => !table.columns[place].hidden),
  };
  const body = element('tbody');
  const head = element('tr');
  const box = element('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': table.caption});
  box.append(element('table', {class: table.ofTrials ? 'trials' : null}, element('thead', {}, head), body));
  const count = element('span', {class: 'count', role: 'status'});
  const tools = element('div', {class: 'tools'});
  holder.append(element('div', {class: 'caption'}, element('h3', {}, table.caption, ' ', count), tools), constantsOf(table) ?? '', box);
  if (table.rows >= FEWEST_TO_FILTER) tools.append(filterField());
  if (table.columns.length >= FEWEST_TO_CHOOSE && table.rows) tools.append(columnChoice());
  if (table.rows) tools.append(tableMenu(table, () => ({columns: state.columns.map((place) => table.columns[place]), rows: state.rows})));

  function filterField() {
    const field = element('input', {
      type: 'search', class: 'filter', placeholder: 'filter: word, or name<0.1', 'aria-label': `filter the table ${table.caption}`,
      title: 'Words that are in a row, and conditions such as optimizer=adam or best_value<0.1, all of which must hold',
    });
    let waiting = 0;
    field.addEventListener('input', () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        state.keep = filterOf(field.value, table);
        arrange();
      }, 60);
    });
    return field;
  }

  function columnChoice() {
    const box_of = (place) => element('input', {
      type: 'checkbox', checked: state.columns.includes(place),
      onchange: (event) => {
        const chosen = new Set(state.columns);
        if (event.target.checked) chosen.add(place);
        else chosen.delete(place);
        state.columns = table.columns.map((_, other) => other).filter((other) => chosen.has(other));
        makeHead();
        showFrom(state.first);
      },
    });
    const first = table.ofTrials ? 1 : 0;
    const boxes = table.columns.map(({name}, place) => (place < first ? null : element('label', {}, box_of(place), ' ', name)));
    return element('details', {class: 'save'}, element('summary', {}, 'Columns'), element('div', {class: 'choices many'}, ...boxes));
  }

  function makeHead() {
    head.replaceChildren(...state.columns.map((place) => {
      const column = table.columns[place];
      const button = element('button', {type: 'button', title: column.name, onclick: () => sortBy(place)}, column.name);
      const sort = place !== state.by ? 'none' : state.sign > 0 ? 'ascending' : 'descending';
      return element('th', {scope: 'col', class: column.numeric ? 'number' : null, 'aria-sort': sort, 'data-column': place}, button);
    }));
  }

  function sortBy(place) {
    // The first click sorts upwards, the second downwards.
    state.sign = state.by === place ? -state.sign : 1;
    state.by = place;
    state.order = sortedRows(table, place, state.sign);
    for (const cell of head.cells) cell.setAttribute('aria-sort', Number(cell.dataset.column) !== place ? 'none' : state.sign > 0 ? 'ascending' : 'descending');
    arrange();
  }

  /** Show the rows that the filter keeps, in their order, from the first one on. */
  function arrange() {
    state.rows = state.order.filter(state.keep);
    const all = table.rows === 1 ? '1 row' : `${table.rows.toLocaleString('en')} rows`;
    count.textContent = state.rows.length === table.rows ? all : `${state.rows.length.toLocaleString('en')} of ${all}`;
    box.scrollTop = 0;
    showFrom(0);
  }

  function windowOf() {
    return Math.max(LEAST_ROWS, Math.min(ALL_AT_ONCE, Math.floor(MOST_CELLS / Math.max(1, state.columns.length))));
  }

  /** Make the rows from this place on, as many as are drawn at a time; what is above and below is empty space. */
  function showFrom(first, most = windowOf()) {
    const rows = state.rows.length;
    state.first = Math.max(0, Math.min(Math.floor(first), rows - most));
    const last = Math.min(state.first + most, rows);
    const made = state.rows.slice(state.first, last).map(makeRow);
    body.replaceChildren(...space(state.first), ...made, ...space(rows - last));
    if (made.length) state.height = made[0].offsetHeight || state.height;
    // Columns do not become narrower while one scrolls.
    if (rows <= most) return;
    // All are read before any is set: the browser then lays the table out once.
    const widths = [...head.cells].map((cell) => cell.offsetWidth);
    [...head.cells].forEach((cell, place) => { cell.style.minWidth = `${widths[place]}px`; });
  }

  function space(rows) {
    if (!rows) return [];
    const cell = element('td', {colspan: state.columns.length});
    cell.style.height = `${rows * state.height}px`;
    return [element('tr', {class: 'space', 'aria-hidden': 'true'}, cell)];
  }

  function makeRow(row) {
    const cells = state.columns.map((place) => {
      const column = table.columns[place];
      const text = cellText(column.cells[row]);
      if (place === 0 && table.ofTrials) {
        const name = DATA.names ? trialName(ids[row]) : text;
        return element('td', {class: DATA.names ? null : 'number'}, element('button', {type: 'button', class: 'open', 'data-open': ids[row], title: 'open this trial'}, name));
      }
      return element('td', {class: column.numeric ? 'number' : null, title: text.length > 28 ? text : null}, text);
    });
    return element('tr', table.ofTrials ? {'data-row': ids[row], 'aria-selected': String(selected.has(ids[row]))} : {}, ...cells);
  }

  function scrollToSelected() {
    const place = state.rows.findIndex((row) => selected.has(ids[row]));
    const top = place * state.height;
    const room = box.clientHeight - box.querySelector('thead').offsetHeight;
    if (place >= 0 && (top < box.scrollTop || top + state.height > box.scrollTop + room)) box.scrollTop = Math.max(0, top - room / 3);
  }

  box.addEventListener('scroll', () => {
    const place = Math.floor(box.scrollTop / state.height);
    const size = windowOf();
    const near = place < state.first + MARGIN && state.first > 0;
    if (state.rows.length > size && (near || place > state.first + size - 2 * MARGIN)) showFrom(place - size / 3);
  });
  addEventListener('beforeprint', () => showFrom(0, MOST_PRINTED));
  addEventListener('afterprint', () => showFrom(0));
  makeHead();
  arrange();
  if (!table.ofTrials) return;
  trialOrders.push({rows: table.rows, trials: () => state.rows.map((row) => ids[row])});
  body.addEventListener('click', (event) => {
    const open = event.target.closest('[data-open]');
    const row = event.target.closest('[data-row]');
    if (open) openTrial(Number(open.dataset.open));
    else if (row && String(getSelection()) === '') select([Number(row.dataset.row)], event.shiftKey || event.ctrlKey || event.metaKey);
  });
  onSelection(() => {
    if (selected.size) scrollToSelected();
    for (const row of body.querySelectorAll('[data-row]')) row.setAttribute('aria-selected', String(selected.has(Number(row.dataset.row))));
  });
}

/** What is the same in every row, folded above the table. */
function constantsOf(table) {
  if (!table.constants?.length) return null;
  const count = table.constants.length;
  return element('details', {class: 'constants'},
    element('summary', {}, `The same in all: ${table.constants.slice(0, 3).map(([name, value]) => `${name} ${value}`).join(', ')}${count > 3 ? `, and ${count - 3} more` : ''}`),
    pairs(table.constants));
}
