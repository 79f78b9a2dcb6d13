// What trials wrote at their evaluations: pictures, and links to other files, by trial and step.

const SMALL_PIXELS = 224; // A picture whose longer side is at most half of it is enlarged.

function makeFiles(holder) {
  const trials = DATA.files;
  const chooser = element('select', {id: 'files-trial', onchange: () => change()}, ...trials.map((item, place) => element('option', {value: place}, item.label)));
  const slider = element('input', {id: 'files-step', type: 'range', min: '0', step: '1', oninput: () => show()});
  const where = element('output', {for: 'files-step'});
  const pictures = element('div', {class: 'pictures'});
  const others = element('ul', {class: 'others'});
  let wanted = trials[0].selected;
  holder.append(
    element('div', {class: 'controls'},
      element('label', {for: 'files-trial'}, 'Trial'), chooser,
      element('label', {for: 'files-step'}, 'Step'), slider, where),
    pictures, others);

  function change() {
    const {steps} = trials[Number(chooser.value)];
    slider.max = String(steps.length - 1);
    slider.disabled = steps.length < 2;
    // The step nearest to the one that is looked at in the trial before.
    const far = steps.map(({step}) => Math.abs(step - (wanted ?? Infinity)));
    slider.value = String(wanted === null ? steps.length - 1 : far.indexOf(Math.min(...far)));
    show();
  }

  function show() {
    const trial = trials[Number(chooser.value)];
    const {step, files, left} = trial.steps[Number(slider.value)];
    wanted = step;
    where.textContent = `${step.toLocaleString('en')}${step === trial.selected ? ' (the selected checkpoint)' : ''}`;
    slider.setAttribute('aria-valuetext', where.textContent);
    pictures.replaceChildren(...files.filter((file) => file.picture).map((file) => element('figure', {class: 'picture'},
      element('a', {href: file.href}, shownPicture(file)),
      element('figcaption', {}, file.name))));
    others.replaceChildren(...files.filter((file) => !file.picture).map((file) => element('li', {}, element('a', {href: file.href}, file.name), ` ${shownSize(file.size)}`)),
      ...(left ? [element('li', {}, `and ${left.toLocaleString('en')} more`)] : []));
  }

  change();
}

/** A picture; small ones are enlarged, pixel by pixel. */
function shownPicture(file) {
  const image = element('img', {src: file.picture, alt: file.name});
  image.addEventListener('load', () => {
    const scale = Math.floor(SMALL_PIXELS / Math.max(image.naturalWidth, image.naturalHeight, 1));
    if (scale < 2 || file.picture.startsWith('data:image/svg')) return;
    image.style.width = `${scale * image.naturalWidth}px`;
    image.style.imageRendering = 'pixelated';
  });
  return image;
}

function shownSize(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toPrecision(3)} kB` : `${(bytes / 1e6).toPrecision(3)} MB`;
}
