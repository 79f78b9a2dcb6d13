// What a click saves: plots as SVG, PNG and CSV, tables as CSV and LaTeX. All of it is made in the page.

const EXPORT_SIZE = {width: 640, height: 400};
const PNG_TIMES = 2;

function save(name, content, type) {
  const url = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], {type}));
  const link = element('a', {href: url, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** A menu of what can be saved: [name, work] each; `work` may return a promise. */
function saveMenu(title, entries) {
  const buttons = entries.map(([name, work]) => element('button', {
    type: 'button',
    onclick: async (event) => {
      const button = event.currentTarget;
      try {
        await work();
        button.closest('details').open = false;
      } catch (error) {
        button.textContent = `${name}: failed`;
        console.error(error);
      }
    },
  }, name));
  const menu = element('details', {class: 'save'}, element('summary', {'aria-label': `save ${title}`}, 'Save'), element('div', {class: 'choices'}, ...buttons));
  menu.addEventListener('focusout', (event) => { if (!menu.contains(event.relatedTarget) && event.relatedTarget) menu.open = false; });
  menu.addEventListener('keydown', (event) => { if (event.key === 'Escape' && menu.open) { event.stopPropagation(); menu.open = false; menu.querySelector('summary').focus(); } });
  return menu;
}

/** The plot as a file shows it: on white, at a fixed size, with its title. */
async function exportedView(plot) {
  const spec = plotSpec(plot);
  const height = plot.wide ? Math.max(EXPORT_SIZE.height, spec.height) : EXPORT_SIZE.height;
  Object.assign(spec, EXPORT_SIZE, {height, autosize: 'pad', padding: 10, background: 'white'});
  spec.title = {text: plot.title, subtitle: plot.note ? lines(plot.note, 100) : [], anchor: 'start', frame: 'group', offset: 12};
  const holder = element('div');
  const {view} = await window.vegaEmbed(holder, spec, {...EMBEDDING, renderer: 'none'});
  const marked = selectedByTrial();
  return marked ? view.signal('selected', marked).runAsync() : view;
}

function lines(text, most) {
  return text.split(' ').reduce((found, word) => {
    const last = found.length - 1;
    if (last >= 0 && found[last].length + word.length < most) found[last] += ` ${word}`;
    else found.push(word);
    return found;
  }, []);
}

function plotMenu(plot) {
  return saveMenu(`the plot ${plot.title}`, [
    ['SVG', async () => save(`${plot.name}.svg`, await (await exportedView(plot)).toSVG(), 'image/svg+xml')],
    ['PNG', async () => {
      const canvas = await (await exportedView(plot)).toCanvas(PNG_TIMES);
      save(`${plot.name}.png`, await new Promise((done) => { canvas.toBlob(done, 'image/png'); }));
    }],
    ['CSV', () => save(`${plot.name}.csv`, plotCsv(plot), 'text/csv')],
  ]);
}

/** The rows behind a plot, each once, with their values as they are shown. */
function plotCsv(plot) {
  const seen = new Set();
  const rows = [];
  for (const layer of plot.spec.layer) {
    if (layer.mark.type === 'text' || seen.has(layer.data)) continue;
    seen.add(layer.data);
    rows.push(...expanded(DATA.datasets[layer.data]));
  }
  const known = rows.filter((row) => 'x' in row || 'shown_x' in row || 'low' in row);
  const extra = plot.more.map((name, place) => [name, `more${place}`]);
  const own = ['trial', 'series', 'label', 'dash', 'low', 'lower', 'median', 'upper', 'high', 'count', 'value'].filter((name) => known.some((row) => row[name] !== undefined && row[name] !== null && row[name] !== ''));
  const header = [plot.x || 'x', plot.y || 'y', ...own, ...extra.map(([name]) => name)];
  const cells = known.map((row) => [row.shown_x ?? row.x, row.shown_y ?? row.y, ...own.map((name) => row[name]), ...extra.map(([, field]) => row[field])]);
  return csvText(header, cells);
}

function csvText(header, rows) {
  const cell = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...rows].map((row) => row.map(cell).join(',')).join('\n') + '\n';
}

const LATEX = {'\\': '\\textbackslash{}', '&': '\\&', '%': '\\%', $: '\\$', '#': '\\#', _: '\\_', '{': '\\{', '}': '\\}', '~': '\\textasciitilde{}', '^': '\\textasciicircum{}', '<': '\\textless{}', '>': '\\textgreater{}', '|': '\\textbar{}', '"': '\\textquotedbl{}'};

function latexCell(cell) {
  if (typeof cell === 'number') {
    const [digits, exponent] = shortNumber(cell).split('e');
    return exponent === undefined ? (digits.startsWith('-') ? `$${digits}$` : digits) : `$${digits} \\times 10^{${Number(exponent)}}$`;
  }
  return (cell === null ? '' : String(cell)).replace(/[\\&%$#_{}~^<>|"]/g, (mark) => LATEX[mark]).replace(/\s+/g, ' ');
}

function latexText(caption, columns, rows) {
  const line = (cells) => `    ${cells.join(' & ')} \\\\`;
  return [
    '% needs \\usepackage{booktabs}',
    '\\begin{table}',
    '  \\centering',
    `  \\caption{${latexCell(caption)}}`,
    `  \\begin{tabular}{${columns.map((column) => (column.numeric ? 'r' : 'l')).join('')}}`,
    '    \\toprule',
    line(columns.map((column) => latexCell(column.name))),
    '    \\midrule',
    ...rows.map((row) => line(columns.map((column) => latexCell(column.cells[row])))),
    '    \\bottomrule',
    '  \\end{tabular}',
    '\\end{table}',
    '',
  ].join('\n');
}

function tableMenu(table, shown) {
  const name = table.caption.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '') || 'table';
  const exact = (cell) => (typeof cell === 'number' ? cell : cell ?? '');
  return saveMenu(`the table ${table.caption}`, [
    ['CSV', () => {
      const {columns, rows} = shown();
      save(`${name}.csv`, csvText(columns.map((column) => column.name), rows.map((row) => columns.map((column) => exact(column.cells[row])))), 'text/csv');
    }],
    ['LaTeX', () => {
      const {columns, rows} = shown();
      save(`${name}.tex`, latexText(table.caption, columns, rows), 'application/x-tex');
    }],
  ]);
}
