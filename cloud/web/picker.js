// Choosing series: a filter and a list, bounded, so that a hundred thousand series do not become as many rows.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { count } from "./format.js";

const html = htm.bind(h);
const MOST_LISTED = 100;

export function Picker({ series, chosen, filter, most, onFilter, onToggle }) {
  const found = matching(series, filter);
  const listed = found.slice(0, MOST_LISTED);
  const full = chosen.length >= most;
  return html`
    <details class="picker" open=${innerWidth > 860}>
      <summary>Choose series <span class="muted">${count(chosen.length)} of ${count(series.length)}</span></summary>
      <label class="filter"><span>Filter</span>
        <input type="search" value=${filter} placeholder="gateway or name" autocomplete="off"
          spellcheck="false" onInput=${(event) => onFilter(event.target.value)} /></label>
      <p class="muted note" aria-live="polite">${note(found, listed, full, most)}</p>
      <div class="list">${[...byGateway(listed)].map(([gateway, some]) => html`
        <fieldset key=${gateway}><legend>${gateway}</legend>
          <ul>${some.map((one) => html`<${Choice} key=${one.id} one=${one} on=${chosen.includes(one.id)}
            full=${full} onToggle=${onToggle} />`)}</ul></fieldset>`)}</div>
    </details>`;
}

function byGateway(series) {
  const groups = new Map();
  for (const one of series) {
    if (!groups.has(one.gateway)) groups.set(one.gateway, []);
    groups.get(one.gateway).push(one);
  }
  return groups;
}

function Choice({ one, on, full, onToggle }) {
  return html`
    <li><label><input type="checkbox" checked=${on} disabled=${full && !on} onChange=${() => onToggle(one.id)} />
      <span class="name">${one.name}</span></label></li>`;
}

/** Every word of the filter must occur in gateway or name. */
function matching(series, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return series;
  return series.filter((one) => {
    const text = `${one.gateway}/${one.name}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function note(found, listed, full, most) {
  const rest = found.length - listed.length;
  return [
    found.length ? "" : "Nothing matches.",
    rest > 0 ? `${count(rest)} more; narrow the filter to see them.` : "",
    full ? `At most ${most} charts at once.` : "",
  ].join(" ").trim();
}
