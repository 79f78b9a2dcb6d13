// The theme: that of the system, or the one that was chosen; plots have the colours of the page.

const THEMES = ['system', 'light', 'dark'];
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');
const themeWatchers = [];
let theme = remembered();

function remembered() {
  try {
    const kept = localStorage.getItem('tunectl-theme');
    return THEMES.includes(kept) ? kept : 'system';
  } catch {
    return 'system'; // A page from a file may have no storage.
  }
}

function isDark() {
  return theme === 'dark' || (theme === 'system' && systemIsDark.matches);
}

function applyTheme() {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById('theme');
  if (button) button.textContent = `Theme: ${theme}`;
  for (const watcher of themeWatchers) watcher();
}

function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  try {
    localStorage.setItem('tunectl-theme', theme);
  } catch {
    // The choice holds until the page is closed.
  }
  applyTheme();
}

systemIsDark.addEventListener('change', applyTheme);

/** A Vega-Lite specification in the colours of the page; its data, which may be any text, stay as they are. */
function inTheme(spec) {
  return isDark() ? {...recoloured(spec), config: {...recoloured(spec.config), ...DARK_CONFIG(spec.config)}} : spec;
}

const NO_COLOURS = new Set(['data', 'domain', 'params', 'title', 'text', 'field', 'labelExpr', 'test', 'values']);

function recoloured(part) {
  if (typeof part === 'string') return DATA.dark[part] ?? part;
  if (Array.isArray(part)) return part.map(recoloured);
  if (part === null || typeof part !== 'object') return part;
  const found = {};
  for (const [key, value] of Object.entries(part)) found[key] = NO_COLOURS.has(key) ? value : stronger(key, recoloured(value));
  // The strongest contrast to the page is for the best, which come first; the darkest colours cannot be seen on it.
  if (found.scheme === 'viridis') Object.assign(found, {reverse: !found.reverse, scheme: {name: 'viridis', extent: [0.3, 1]}});
  return found;
}

/** What lets the page through is harder to see on a dark one. */
function stronger(key, value) {
  if (key !== 'fillOpacity' && key !== 'strokeOpacity') return value;
  const more = (opacity) => (opacity > 0.3 ? Math.min(1, opacity + 0.2) : opacity);
  return typeof value === 'number' ? more(value) : typeof value?.value === 'number' ? {...value, value: more(value.value)} : value;
}

const DARK_CONFIG = (config) => {
  const [ink, quiet, line] = ['#e4e9ee', '#aeb9c4', '#5c6875'];
  return {
    axis: {...recoloured(config.axis), labelColor: quiet, titleColor: ink, domainColor: line, tickColor: line},
    legend: {...recoloured(config.legend), labelColor: quiet, titleColor: ink},
  };
};
