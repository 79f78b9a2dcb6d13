// What the best trials predicted for chosen examples: a card for each example, by trial and step.

const IMAGE_PIXELS = 112; // The longer side of an image as it is shown.
const LINE_SIZE = [180, 44];
const MOST_IN_TEXT = 12;
const SVG = 'http://www.w3.org/2000/svg';

function makePredictions(holder) {
  const trials = DATA.predictions;
  const chooser = element('select', {id: 'predictions-trial', onchange: () => change()}, ...trials.map((item, place) => element('option', {value: place}, item.label)));
  const slider = element('input', {id: 'predictions-step', type: 'range', min: '0', step: '1', oninput: () => show()});
  const where = element('output', {for: 'predictions-step'});
  const cards = element('div', {class: 'cards'});
  let wanted = trials[0].selected;
  holder.append(
    element('div', {class: 'controls'},
      element('label', {for: 'predictions-trial'}, 'Trial'), chooser,
      element('label', {for: 'predictions-step'}, 'Step'), slider, where),
    cards);

  function change() {
    const {steps} = trials[Number(chooser.value)];
    slider.max = String(steps.length - 1);
    slider.disabled = steps.length < 2;
    // The step nearest to the one that is looked at in the trial before.
    const far = steps.map(({step}) => Math.abs(step - (wanted ?? 0)));
    slider.value = String(far.indexOf(Math.min(...far)));
    show();
  }

  function show() {
    const trial = trials[Number(chooser.value)];
    const {step, values, right} = trial.steps[Number(slider.value)];
    wanted = step;
    where.textContent = `${step.toLocaleString('en')}${step === trial.selected ? ' (the selected checkpoint)' : ''}`;
    slider.setAttribute('aria-valuetext', where.textContent);
    cards.replaceChildren(...trial.examples.map((example, place) => card(example, [...DATA.constant[trial.constant[place]], ...values[place]], right[place])));
  }

  change();
}

function card(example, values, right) {
  const verdict = right === null ? '' : right ? 'right' : 'wrong';
  const title = element('h3', {}, `example ${example}`, verdict ? element('span', {class: 'verdict'}, verdict) : null);
  return element('article', {class: `card ${verdict}`}, title, ...values.map(([name, value]) => element('div', {class: 'value'}, element('span', {class: 'name'}, name), shownValue(value, name))));
}

function shownValue(value, name) {
  if (value === null || typeof value !== 'object') {
    return typeof value === 'number' ? element('span', {class: 'number'}, shortNumber(value)) : element('span', {class: 'words'}, String(value));
  }
  if ('png' in value) return shownImage(value, name);
  if ('text' in value) return element('span', {class: 'words'}, value.text, element('span', {class: 'quiet'}, ` … (${value.length.toLocaleString('en')} characters)`));
  return shownArray(value, name);
}

function shownImage({png, size: [width, height], full, limits}, name) {
  const scale = IMAGE_PIXELS / Math.max(width, height);
  const notes = [];
  if (full[0] !== width || full[1] !== height) notes.push(`of ${full[0]} × ${full[1]} pixels`);
  if (limits.length && (limits[0] !== 0 || limits[1] !== 1)) notes.push(`black is ${shortNumber(limits[0])}, white ${shortNumber(limits[1])}`);
  const image = element('img', {
    src: `data:image/png;base64,${png}`, alt: name, title: notes.join('; ') || null,
    width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)),
  });
  return image;
}

/** A row of numbers as a line; others as their shape and first numbers. */
function shownArray({shape, numbers}, name) {
  const length = shape.reduce((product, part) => product * part, 1);
  const cut = numbers.length < length ? ` (the first ${numbers.length.toLocaleString('en')} of ${length.toLocaleString('en')})` : '';
  const finite = numbers.filter((number) => number !== null);
  if (shape.length !== 1 || finite.length < 3) {
    const more = numbers.length > MOST_IN_TEXT ? ', …' : '';
    const first = numbers.slice(0, MOST_IN_TEXT).map((number) => (number === null ? 'not finite' : shortNumber(number))).join(', ');
    return element('span', {class: 'words'}, `${shape.join(' × ')}: ${first}${more}${cut}`);
  }
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const [width, height] = LINE_SIZE;
  const points = numbers.flatMap((number, place) => (number === null ? [] : [
    `${((width * place) / Math.max(1, numbers.length - 1)).toFixed(1)},${(height - 2 - ((height - 4) * (number - low)) / (high - low || 1)).toFixed(1)}`,
  ]));
  const line = document.createElementNS(SVG, 'polyline');
  line.setAttribute('points', points.join(' '));
  const drawing = document.createElementNS(SVG, 'svg');
  const range = `${length.toLocaleString('en')} numbers from ${shortNumber(low)} to ${shortNumber(high)}${cut}`;
  for (const [key, value] of Object.entries({viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': `${name}: ${range}`})) drawing.setAttribute(key, value);
  const title = document.createElementNS(SVG, 'title');
  title.textContent = range;
  drawing.append(title, line);
  return drawing;
}
