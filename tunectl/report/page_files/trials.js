// A trial opened: what it was, what became of it, its curves and the end of its log.

const COLOURS = ['#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00'];
const MANY_TIMES = 50;

function openTrial(trial) {
  const dialog = document.getElementById('trial');
  const detail = DATA.trials.find((item) => item.trial === trial);
  const title = element('h2', {id: 'trial-title'}, `Trial ${trial}`);
  const close = element('button', {type: 'button', class: 'close', 'aria-label': 'close', onclick: () => dialog.close()}, '×');
  const content = detail ? detailParts(detail) : rowParts(trial);
  dialog.replaceChildren(element('div', {class: 'bar'}, title, close), ...content);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  return detail ? drawCurves(dialog, detail) : Promise.resolve();
}

function pairs(entries) {
  return element('dl', {class: 'pairs'}, ...entries.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))));
}

function detailParts(detail) {
  const state = element('p', {class: `state ${/^[a-z]+$/.test(detail.state) ? detail.state : ''}`}, detail.state, detail.reason ? ` (${detail.reason})` : '');
  return [
    state,
    detail.message ? element('p', {class: 'message'}, detail.message) : null,
    element('h3', {}, 'Hyperparameters'),
    detail.hyperparameters.length ? pairs(detail.hyperparameters) : element('p', {class: 'quiet'}, 'none'),
    detail.facts.length ? element('h3', {}, 'Facts') : null,
    detail.facts.length ? pairs(detail.facts) : null,
    element('h3', {}, 'Curves'),
    element('div', {class: 'curves'}, detail.curves.length ? null : element('p', {class: 'quiet'}, 'no evaluations')),
    detail.log ? element('h3', {}, 'End of its log') : null,
    detail.log ? element('pre', {class: 'log'}, detail.log) : null,
  ].filter((part) => part !== null);
}

/** Of a trial that is not among those that open: its row of the fullest table that has it. */
function rowParts(trial) {
  const tables = DATA.tables.filter((table) => table.ofTrials && table.columns[0].cells.includes(trial));
  const table = tables.sort((left, right) => right.columns.length - left.columns.length)[0];
  const note = element('p', {class: 'quiet'}, 'The curves and the log of this trial are not in the page; its folder has them.');
  if (!table) return [note];
  const row = table.columns[0].cells.indexOf(trial);
  return [note, pairs(table.columns.map((column) => [column.name, cellText(column.cells[row])]).filter(([, value]) => value !== ''))];
}

/** A plot for each metric, with a line for each of its splits. */
async function drawCurves(dialog, detail) {
  const groups = new Map();
  const trainLast = [...detail.curves].sort(([left], [right]) => left.startsWith('train/') - right.startsWith('train/'));
  for (const [name, steps, values] of trainLast) {
    const metric = name.slice(name.indexOf('/') + 1);
    if (!groups.has(metric)) groups.set(metric, []);
    groups.get(metric).push({name, steps: DATA.steps[steps], values});
  }
  const holder = dialog.querySelector('.curves');
  for (const [metric, curves] of groups) {
    const canvas = element('div', {class: 'canvas'});
    holder.append(element('figure', {}, element('figcaption', {}, metric), canvas));
    await window.vegaEmbed(canvas, curvesSpec(curves), {...EMBEDDING, renderer: 'svg'});
  }
}

function curvesSpec(curves) {
  const rows = curves.flatMap(({name, steps, values}) => {
    let piece = 0;
    return steps.flatMap((step, place) => {
      if (values[place] === null) piece += 1;
      return values[place] === null ? [] : [{x: step, y: values[place], series: name, line: `${name} ${piece}`, dashed: name.startsWith('train/')}];
    });
  });
  const heights = rows.map((row) => row.y);
  const log = heights.length > 0 && Math.min(...heights) > 0 && Math.max(...heights) > MANY_TIMES * Math.min(...heights);
  const names = curves.map(({name}) => name);
  const scale = {domain: names, range: names.map((_, place) => COLOURS[place % COLOURS.length])};
  const legend = {title: null, orient: 'bottom', columns: 2, labelLimit: 180, symbolOpacity: 1};
  return {
    ...base(), width: 'container', height: 150, autosize: {type: 'fit-x', contains: 'padding'}, data: {values: rows},
    mark: {type: 'line', strokeWidth: 1.5, point: rows.length < 2 * names.length},
    encoding: {
      x: {field: 'x', type: 'quantitative', title: 'step', axis: {tickCount: 5, labelOverlap: true}, scale: {nice: false, zero: false}},
      y: {field: 'y', type: 'quantitative', title: null, axis: {tickCount: 4}, scale: {type: log ? 'log' : 'linear', zero: false}},
      color: {field: 'series', type: 'nominal', scale, legend},
      strokeDash: {condition: {test: 'datum.dashed', value: [4, 3]}, value: [1, 0]},
      detail: {field: 'line', type: 'nominal'},
    },
  };
}

function base() {
  return {config: {aria: false, font: 'system-ui, sans-serif', axis: {gridColor: '#ececec', labelFontSize: 11}, view: {stroke: '#ccc'}}};
}
