// Tables: sorted by a click on a heading, those of long ones made where they are looked at, those of trials selected by a click.

const ALL_AT_ONCE = 200;
const WINDOW = 120;
const MARGIN = 25;
const MOST_PRINTED = 1000;
const COLLATOR = new Intl.Collator(undefined, {numeric: true});

/** What a cell is sorted by, as [rank, value]: numbers or texts, then NaN, then what is missing, whichever the direction. */
function sortKey(cell, numeric) {
  if (cell === null) return [2, 0];
  if (!numeric) return [0, String(cell)];
  const value = typeof cell === 'number' ? cell : {inf: Infinity, '-inf': -Infinity}[cell] ?? Number(cell);
  return Number.isNaN(value) ? [1, 0] : [0, value];
}

function sortedRows(column, rows, sign) {
  const keys = column.cells.map((cell) => sortKey(cell, column.numeric));
  const compare = column.numeric
    ? (left, right) => (left < right ? -1 : left > right ? 1 : 0)
    : (left, right) => COLLATOR.compare(left, right);
  const order = Array.from({length: rows}, (_, row) => row);
  return order.sort((left, right) => keys[left][0] - keys[right][0] || sign * compare(keys[left][1], keys[right][1]) || left - right);
}

function cellText(cell) {
  if (cell === null) return '';
  return typeof cell === 'number' ? shortNumber(cell) : String(cell);
}

function makeTable(holder) {
  const table = DATA.tables[Number(holder.dataset.table)];
  const ids = table.ofTrials ? table.columns[0].cells : [];
  const body = element('tbody');
  const headings = table.columns.map((column, place) => heading(column, () => sortBy(place)));
  const box = element('div', {class: 'scroll', tabindex: '0', role: 'region', 'aria-label': table.caption});
  box.append(element('table', {class: table.ofTrials ? 'trials' : null}, element('thead', {}, element('tr', {}, ...headings)), body));
  const count = table.rows === 1 ? '1 row' : `${table.rows.toLocaleString('en')} rows`;
  holder.append(element('h3', {}, table.caption, ' ', element('span', {class: 'count'}, count)), box);
  const state = {order: Array.from({length: table.rows}, (_, row) => row), by: -1, sign: 1, first: 0, height: 27};

  function sortBy(place) {
    // The first click sorts upwards, the second downwards.
    state.sign = state.by === place ? -state.sign : 1;
    state.by = place;
    state.order = sortedRows(table.columns[place], table.rows, state.sign);
    headings.forEach((cell, other) => cell.setAttribute('aria-sort', other !== place ? 'none' : state.sign > 0 ? 'ascending' : 'descending'));
    box.scrollTop = 0;
    showFrom(0);
  }

  /** Make the rows from this place on, as many as are drawn at a time; what is above and below is empty space. */
  function showFrom(first, most = table.rows <= ALL_AT_ONCE ? ALL_AT_ONCE : WINDOW) {
    state.first = Math.max(0, Math.min(first, table.rows - most));
    const last = Math.min(state.first + most, table.rows);
    const made = state.order.slice(state.first, last).map(makeRow);
    body.replaceChildren(...space(state.first), ...made, ...space(table.rows - last));
    if (made.length) state.height = made[0].offsetHeight || state.height;
    // Columns do not become narrower while one scrolls.
    if (table.rows > most) headings.forEach((cell) => { cell.style.minWidth = `${cell.offsetWidth}px`; });
  }

  function space(rows) {
    if (!rows) return [];
    const cell = element('td', {colspan: table.columns.length});
    cell.style.height = `${rows * state.height}px`;
    return [element('tr', {class: 'space', 'aria-hidden': 'true'}, cell)];
  }

  function makeRow(row) {
    const cells = table.columns.map((column, place) => {
      const text = cellText(column.cells[row]);
      if (place === 0 && table.ofTrials) {
        return element('td', {class: 'number'}, element('button', {type: 'button', class: 'open', 'data-open': ids[row], title: 'open this trial'}, text));
      }
      return element('td', {class: column.numeric ? 'number' : null, title: text.length > 28 ? text : null}, text);
    });
    return element('tr', table.ofTrials ? {'data-row': ids[row], 'aria-selected': String(selected.has(ids[row]))} : {}, ...cells);
  }

  function scrollToSelected() {
    const place = state.order.findIndex((row) => selected.has(ids[row]));
    const top = place * state.height;
    const room = box.clientHeight - box.querySelector('thead').offsetHeight;
    if (place >= 0 && (top < box.scrollTop || top + state.height > box.scrollTop + room)) box.scrollTop = Math.max(0, top - room / 3);
  }

  box.addEventListener('scroll', () => {
    const place = Math.floor(box.scrollTop / state.height);
    const near = place < state.first + MARGIN && state.first > 0;
    if (table.rows > ALL_AT_ONCE && (near || place > state.first + WINDOW - 2 * MARGIN)) showFrom(place - WINDOW / 3);
  });
  addEventListener('beforeprint', () => showFrom(0, MOST_PRINTED));
  addEventListener('afterprint', () => showFrom(0));
  showFrom(0);
  if (!table.ofTrials) return;
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

function heading(column, sort) {
  const button = element('button', {type: 'button', title: column.name, onclick: sort}, column.name);
  return element('th', {scope: 'col', class: column.numeric ? 'number' : null, 'aria-sort': 'none'}, button);
}
