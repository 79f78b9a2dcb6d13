// A trial opened: what it was, what became of it, its curves, the end of its log, and the commands for more.

const MANY_TIMES = 50;

function openTrial(trial) {
  const dialog = document.getElementById('trial');
  const detail = DATA.trials.find((item) => item.trial === trial);
  const title = element('h2', {id: 'trial-title'}, trialName(trial).replace(/^t/, 'T'));
  const close = element('button', {type: 'button', class: 'close', 'aria-label': 'close', onclick: () => dialog.close()}, '×');
  const order = trialsInOrder();
  const place = order.indexOf(trial);
  const step = (by, name, text) => element('button', {
    type: 'button', class: 'step', disabled: place < 0 || order[place + by] === undefined, 'aria-label': `${name} trial`,
    title: `${name} trial of the table of trials (${by < 0 ? '←' : '→'})`, onclick: () => openTrial(order[place + by]),
  }, text);
  const where = place < 0 ? null : element('span', {class: 'count'}, `${place + 1} of ${order.length.toLocaleString('en')}`);
  const content = [...(detail ? detailParts(detail) : rowParts(trial)), ...commandParts(trial, detail)];
  const previous = document.activeElement?.getAttribute('aria-label');
  dialog.replaceChildren(element('div', {class: 'bar'}, title, where, element('span', {class: 'steps'}, step(-1, 'previous', '‹'), step(1, 'next', '›')), close), ...content);
  dialog.onkeydown = (event) => {
    if (event.target.closest('input, select, textarea') || event.altKey || event.ctrlKey || event.metaKey) return;
    const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (by && place >= 0 && order[place + by] !== undefined) {
      event.preventDefault();
      openTrial(order[place + by]);
    }
  };
  if (!dialog.open) dialog.showModal();
  // The button that was pressed is pressed again by the same key.
  dialog.querySelector(`button[aria-label="${previous === 'previous trial' || previous === 'next trial' ? previous : 'close'}"]:not([disabled])`)?.focus();
  dialog.scrollTop = 0;
  if (!selected.has(trial) || selected.size > 1) select([trial]);
  return detail ? drawCurves(dialog, detail) : Promise.resolve();
}

function pairs(entries) {
  return element('dl', {class: 'pairs'}, ...entries.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))));
}

function detailParts(detail) {
  const state = element('p', {class: `state ${/^[a-z]+$/.test(detail.state) ? detail.state : ''}`}, detail.state, detail.reason ? ` (${detail.reason})` : '');
  const own = new Set(detail.varying ?? []);
  const varying = detail.hyperparameters.filter(([name]) => own.has(name));
  const others = detail.hyperparameters.filter(([name]) => !own.has(name));
  return [
    state,
    detail.message ? element('p', {class: 'message'}, detail.message) : null,
    element('h3', {}, 'Hyperparameters'),
    detail.hyperparameters.length ? null : element('p', {class: 'quiet'}, 'none'),
    varying.length ? pairs(varying) : null,
    others.length && varying.length ? element('details', {class: 'constants'}, element('summary', {}, `${others.length} that do not vary`), pairs(others)) : null,
    others.length && !varying.length ? pairs(others) : null,
    detail.facts.length ? element('h3', {}, 'Facts') : null,
    detail.facts.length ? pairs(detail.facts) : null,
    element('h3', {}, 'Curves'),
    element('div', {class: 'curves'}, detail.curves.length ? null : element('p', {class: 'quiet'}, 'no evaluations')),
    detail.log ? element('h3', {}, 'End of its log') : null,
    detail.log ? element('pre', {class: 'log', tabindex: '0'}, detail.log) : null,
  ].filter((part) => part !== null);
}

/** Of a trial whose curves are not in the page: its row of the fullest table that has it. */
function rowParts(trial) {
  const tables = DATA.tables.filter((table) => table.ofTrials && table.columns[0].cells.includes(trial));
  const table = tables.sort((left, right) => right.columns.length - left.columns.length)[0];
  const note = element('p', {class: 'quiet'}, 'The curves and the log of this trial are not in the page; its folder has them.');
  if (!table) return [note];
  const row = table.columns[0].cells.indexOf(trial);
  return [note, pairs(table.columns.map((column) => [column.name, cellText(column.cells[row])]).filter(([, value]) => value !== ''))];
}

function commandParts(trial, detail) {
  const group = DATA.commands.findLast(({first}) => first <= trial);
  const commands = group ? group.texts.map(([before, after]) => `${before}${trial - group.first}${after}`) : [];
  const code = (text) => element('div', {class: 'code'},
    element('pre', {}, element('code', {}, text)),
    element('button', {type: 'button', class: 'copy', 'aria-label': 'copy this'}, 'copy'));
  return [
    ...(detail?.called ? [element('h3', {}, 'The call of its program'), code(detail.called)] : []),
    ...(commands.length ? [element('h3', {}, 'Commands'), ...commands.map(code)] : []),
  ];
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
    if (!holder.isConnected) return; // Another trial was opened meanwhile.
    const canvas = element('div', {class: 'canvas', role: 'img', 'aria-label': `${metric} by step`});
    holder.append(element('figure', {}, element('figcaption', {}, metric), canvas));
    await window.vegaEmbed(canvas, inTheme(curvesSpec(curves)), {...EMBEDDING, renderer: 'svg'});
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
  // A logarithm would press the good ends of curves that rise, as those of an accuracy, together.
  const known = curves.map(({values}) => values.filter((value) => value !== null)).filter((values) => values.length > 0);
  const ends = known.map((values) => values[values.length - 1]);
  const rising = known.filter((values) => values[values.length - 1] > values[0]).length;
  const spread = 2 * rising > known.length ? ends : heights;
  const log = heights.length > 0 && Math.min(...heights) > 0 && Math.max(...spread) > MANY_TIMES * Math.min(...spread);
  const names = curves.map(({name}) => name);
  const scale = {domain: names, range: names.map((_, place) => DATA.colours[place % DATA.colours.length])};
  const legend = {title: null, orient: 'bottom', columns: 2, labelLimit: 180, symbolOpacity: 1};
  return {
    ...base(), width: 'container', height: 150, autosize: {type: 'fit-x', contains: 'padding'}, data: {values: rows},
    mark: {type: 'line', strokeWidth: 1.5, point: rows.length < 2 * names.length},
    encoding: {
      x: {field: 'x', type: 'quantitative', title: 'step', axis: {tickCount: 5, labelOverlap: true}, scale: {nice: false, zero: false}},
      y: {field: 'y', type: 'quantitative', title: null, axis: {tickCount: 4}, scale: log ? {type: 'log'} : {zero: false}},
      color: {field: 'series', type: 'nominal', scale, legend},
      strokeDash: {condition: {test: 'datum.dashed', value: [4, 3]}, value: [1, 0]},
      detail: {field: 'line', type: 'nominal'},
    },
  };
}

function base() {
  return {background: 'transparent', config: {aria: false, font: 'system-ui, sans-serif', axis: {gridColor: '#E5E5E5', labelFontSize: 11}, legend: {}, view: {stroke: '#BBBBBB'}}};
}
