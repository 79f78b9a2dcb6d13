// Plots, drawn by Vega when they come near the window; pointing at a trial shows its values, a click or a rectangle selects.

const NEAR_PIXELS = 9;
const SYMBOL_PIXELS = 5; // A symbol on a line wins within this distance of its middle, though the line is as near.
const MOST_ROWS_AS_SVG = 800;
const EMBEDDING = {mode: 'vega-lite', actions: false, ast: true, defaultStyle: false, tooltip: false, patch: legendsBelowEachOther};

/** Two legends side by side need more room than a narrow page has; Vega-Lite has no name for this layout of Vega's. */
function legendsBelowEachOther(spec) {
  return {...spec, config: {...spec.config, legend: {...spec.config?.legend, layout: {bottom: {direction: 'vertical'}}}}};
}
const drawnPlots = new Map();
const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 30));

/** Rows of columns in which repeated values are written once. */
function expanded({rows, columns}) {
  const names = Object.keys(columns);
  const lists = names.map((name) => {
    const column = columns[name];
    if (Array.isArray(column)) return column;
    return column.texts ? column.texts.map((place) => DATA.texts[place]) : column.runs.flatMap(([value, times]) => Array(times).fill(value));
  });
  return Array.from({length: rows}, (_, row) => Object.fromEntries(names.map((name, place) => [name, lists[place][row]])));
}

/** The specification of a plot with its data, in the colours of paper. */
function plotSpec(plot) {
  const spec = structuredClone(plot.spec);
  for (const layer of spec.layer) layer.data = {values: expanded(DATA.datasets[layer.data])};
  return spec;
}

async function drawPlot(holder) {
  const plot = DATA.plots[Number(holder.dataset.plot)];
  const {view} = await window.vegaEmbed(holder, inTheme({background: 'transparent', ...plotSpec(plot)}), {...EMBEDDING, renderer: plot.rows > MOST_ROWS_AS_SVG ? 'canvas' : 'svg'});
  const first = !drawnPlots.has(holder);
  drawnPlots.get(holder)?.finalize();
  drawnPlots.set(holder, view);
  holder.dataset.drawn = 'true';
  holder.toggleAttribute('data-dark', isDark());
  if (selected.size) await view.signal('selected', selectedByTrial()).runAsync();
  if (first) {
    holder.closest('.plot').prepend(plotMenu(plot));
    listen(holder, () => drawnPlots.get(holder), plot);
  } else {
    holder.append(holder.brush);
  }
}

/** Does this to every plot: at once to those in the window, to the others while nothing else is to do. */
function eachPlot(work) {
  let round = 0;
  return () => {
    round += 1;
    const own = round;
    const inWindow = (holder) => {
      const {top, bottom} = holder.getBoundingClientRect();
      return bottom > 0 && top < innerHeight;
    };
    const waiting = [...drawnPlots.keys()];
    const near = waiting.filter(inWindow);
    for (const holder of near) work(holder);
    const others = waiting.filter((holder) => !near.includes(holder));
    const next = () => idle(async () => {
      const holder = others.shift();
      if (!holder || own !== round) return;
      await work(holder);
      next();
    });
    next();
  };
}

onSelection(eachPlot((holder) => drawnPlots.get(holder).signal('selected', selectedByTrial()).runAsync()));
themeWatchers.push(eachPlot(drawPlot));

/** Every symbol, line and rectangle of the data, with the offset of its group. */
function* marksOf(mark, dx = 0, dy = 0) {
  if (/^(axis|legend|title)/.test(mark.role || '')) return;
  if (mark.marktype !== 'group') {
    yield {mark, dx, dy};
    return;
  }
  for (const group of mark.items) {
    for (const child of group.items || []) yield* marksOf(child, dx + (group.x || 0), dy + (group.y || 0));
  }
}

function position(event, holder, view) {
  const box = holder.querySelector('svg, canvas').getBoundingClientRect();
  const [left, top] = view.origin();
  return {x: event.clientX - box.left - left, y: event.clientY - box.top - top};
}

function toSegment(point, from, to) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = dx * dx + dy * dy;
  const along = length ? Math.max(0, Math.min(1, ((point.x - from.x) * dx + (point.y - from.y) * dy) / length)) : 0;
  return {distance: Math.hypot(point.x - from.x - along * dx, point.y - from.y - along * dy), item: along < 0.5 ? from : to};
}

/** The row whose symbol or line is nearest to a point in the plot, or whose rectangle holds it. */
function pick(view, {x, y}) {
  let best = {distance: NEAR_PIXELS, datum: null};
  let inside = null;
  for (const {mark, dx, dy} of marksOf(view.scenegraph().root)) {
    const point = {x: x - dx, y: y - dy};
    const {marktype, items} = mark;
    if (marktype === 'symbol') {
      for (const item of items) {
        const distance = Math.hypot(point.x - item.x, point.y - item.y) - SYMBOL_PIXELS;
        if (distance < best.distance) best = {distance, datum: item.datum};
      }
    } else if (marktype === 'line') {
      for (let place = 0; place < items.length; place += 1) {
        const {distance, item} = toSegment(point, items[Math.max(0, place - 1)], items[place]);
        if (distance < best.distance) best = {distance, datum: item.datum};
      }
    } else if (marktype === 'rect') {
      const hit = items.find(({bounds}) => bounds.contains(point.x, point.y));
      if (hit) inside = hit.datum;
    }
  }
  return best.datum ?? inside;
}

function trialsWithin(view, from, to) {
  const [left, right] = [Math.min(from.x, to.x), Math.max(from.x, to.x)];
  const [top, bottom] = [Math.min(from.y, to.y), Math.max(from.y, to.y)];
  const found = new Set();
  for (const {mark, dx, dy} of marksOf(view.scenegraph().root)) {
    if (mark.marktype !== 'symbol' && mark.marktype !== 'line') continue;
    for (const item of mark.items) {
      const [x, y] = [item.x + dx, item.y + dy];
      if (x >= left && x <= right && y >= top && y <= bottom) found.add(item.datum.trial);
    }
  }
  return [...found];
}

function moreText(value) {
  return typeof value === 'number' ? shortNumber(value) : value ?? '';
}

function showTip(datum, plot, event) {
  const tip = document.getElementById('tip');
  tip.hidden = datum === null;
  if (!datum) return;
  const shown = (value, given) => given ?? (typeof value === 'number' ? shortNumber(value) : '');
  const head = datum.label || (Number.isInteger(datum.trial) ? trialName(datum.trial) : '');
  const named = Number.isInteger(datum.trial) && !DATA.names && !head.includes(String(datum.trial)) ? `trial ${datum.trial}: ${head}` : head;
  const lines = [['', named], ['', datum.series === named ? '' : datum.series], [plot.x, shown(datum.x, datum.shown_x)], [plot.y, shown(datum.y, datum.shown_y)],
    ...plot.more.map((name, place) => [name, moreText(datum[`more${place}`])])];
  tip.replaceChildren(...lines.filter(([, value]) => value).map(([name, value], place) =>
    element('p', {class: place === 0 ? 'first' : null}, name ? element('span', {}, name) : null, value)));
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${event.clientY + box.height + 22 > innerHeight ? event.clientY - box.height - 10 : event.clientY + 14}px`;
}

function listen(holder, now, plot) {
  let start = null;
  let frame = 0;
  const brush = element('div', {class: 'brush', hidden: true});
  holder.brush = brush;
  holder.append(brush);

  holder.addEventListener('pointerdown', (event) => {
    if (event.button === 0) start = {at: position(event, holder, now()), clientX: event.clientX, clientY: event.clientY};
  });
  holder.addEventListener('pointermove', (event) => {
    if (start && event.pointerType === 'mouse' && Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY) > 5) {
      holder.setPointerCapture(event.pointerId);
      drawBrush(event);
      showTip(null);
      return;
    }
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const datum = pick(now(), position(event, holder, now()));
      holder.classList.toggle('over-trial', Number.isInteger(datum?.trial));
      showTip(datum, plot, event);
    });
  });
  holder.addEventListener('pointerleave', () => {
    cancelAnimationFrame(frame);
    showTip(null);
  });
  holder.addEventListener('pointerup', (event) => {
    if (!start) return;
    const add = event.shiftKey || event.ctrlKey || event.metaKey;
    const end = position(event, holder, now());
    if (!brush.hidden) select(trialsWithin(now(), start.at, end), add);
    else {
      const trial = pick(now(), end)?.trial;
      if (Number.isInteger(trial)) select([trial], add);
      else if (!add && selected.size) select([]);
    }
    start = null;
    brush.hidden = true;
  });
  holder.addEventListener('pointercancel', () => {
    start = null;
    brush.hidden = true;
  });
  holder.addEventListener('dblclick', (event) => {
    const trial = pick(now(), position(event, holder, now()))?.trial;
    if (Number.isInteger(trial)) openTrial(trial);
  });

  function drawBrush(event) {
    const box = holder.getBoundingClientRect();
    brush.hidden = false;
    brush.style.left = `${Math.min(event.clientX, start.clientX) - box.left}px`;
    brush.style.top = `${Math.min(event.clientY, start.clientY) - box.top}px`;
    brush.style.width = `${Math.abs(event.clientX - start.clientX)}px`;
    brush.style.height = `${Math.abs(event.clientY - start.clientY)}px`;
  }
}
