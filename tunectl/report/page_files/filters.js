// Which rows a filter shows: words that are in a row, and conditions such as optimizer=adam or best_value<0.1.

const CONDITION = /^(.+?)(<=|>=|!=|<|>|=)(.*)$/;
const HOLDS = {
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

/** A test of rows by their number, and the terms that name no column. */
function filterOf(text, table) {
  const terms = text.match(/"[^"]*"|\S+/g) ?? [];
  const tests = terms.map((term) => {
    const found = term.startsWith('"') ? null : CONDITION.exec(term);
    const column = found && table.columns.find(({name}) => name.toLowerCase() === found[1].toLowerCase());
    return column ? condition(column, found[2], found[3]) : anywhere(term.replaceAll('"', '').toLowerCase(), table);
  });
  return (row) => tests.every((test) => test(row));
}

function condition(column, sign, wanted) {
  const number = wanted === '' ? NaN : Number(wanted);
  const text = wanted.toLowerCase();
  return (row) => {
    const cell = column.cells[row];
    if (sign === '=' || sign === '!=') {
      const same = typeof cell === 'number' && !Number.isNaN(number) ? cell === number || shortNumber(cell) === wanted : cellText(cell).toLowerCase() === text;
      return same === (sign === '=');
    }
    if (cell === null) return false;
    const [, value] = sortKey(cell, true);
    if (Number.isNaN(number) || typeof value !== 'number') return false;
    return HOLDS[sign](value - number);
  };
}

function anywhere(word, table) {
  return (row) => table.columns.some((column) => lowerTexts(column)[row].includes(word));
}

/** The cells of a column as they are looked through, made once. */
function lowerTexts(column) {
  column.lower ??= column.cells.map((cell) => cellText(cell).toLowerCase());
  return column.lower;
}
