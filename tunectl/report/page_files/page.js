// Brings the page to life: tables at once, plots as they come near, then the rest while nothing else is to do.

function drawPlots() {
  const waiting = new Set(document.querySelectorAll('[data-plot]'));
  const total = waiting.size;
  const draw = async (holder) => {
    if (!waiting.delete(holder)) return;
    try {
      await drawPlot(holder);
    } catch (error) {
      holder.replaceChildren(element('p', {class: 'quiet'}, 'This plot could not be drawn.'));
      console.error(error);
    }
    const drawn = document.querySelectorAll('[data-drawn]').length;
    document.documentElement.dataset.plots = `${drawn} of ${total}`;
    document.documentElement.dataset.firstplots ??= String(Math.round(performance.now()));
  };
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((item) => item.isIntersecting)) {
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, {rootMargin: '300px'});
  waiting.forEach((holder) => near.observe(holder));
  const next = () => idle(async () => {
    const [holder] = waiting;
    if (!holder) return;
    near.unobserve(holder);
    await draw(holder);
    next();
  });
  next();
}

async function copyText(button) {
  const code = button.parentElement.querySelector('code');
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = 'copied';
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = 'press Ctrl+C';
  }
  setTimeout(() => { button.textContent = 'copy'; }, 2000);
}

document.addEventListener('click', (event) => {
  const copy = event.target.closest('.copy');
  const chip = event.target.closest('[data-trial]');
  if (copy) copyText(copy);
  const add = event.shiftKey || event.ctrlKey || event.metaKey;
  if (chip && add) select([Number(chip.dataset.trial)], true);
  else if (chip) openTrial(Number(chip.dataset.trial));
  if (event.target.id === 'theme') nextTheme();
  for (const menu of document.querySelectorAll('details.save[open]')) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !document.getElementById('trial').open && selected.size) select([]);
});
document.getElementById('trial').addEventListener('click', (event) => {
  // A click beside the panel closes it.
  if (event.target === event.currentTarget) event.currentTarget.close();
});
onSelection(showSelection);
onSelection(() => {
  for (const chip of document.querySelectorAll('[data-trial]')) chip.setAttribute('aria-pressed', String(selected.has(Number(chip.dataset.trial))));
});
applyTheme();
for (const chip of DATA.names ? document.querySelectorAll('[data-trial]') : []) chip.textContent = trialName(Number(chip.dataset.trial));
document.querySelectorAll('[data-table]').forEach(makeTable);
document.querySelectorAll('[data-predictions]').forEach(makePredictions);
document.querySelectorAll('[data-files]').forEach(makeFiles);
drawPlots();
document.documentElement.dataset.ready = 'true';
// By this moment, in milliseconds since the page was asked for, tables sort and filter, and plots are being drawn.
document.documentElement.dataset.usable = String(Math.round(performance.now()));
