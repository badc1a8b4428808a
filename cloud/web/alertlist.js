// The list of alerts: one stop for the Tab key, arrows move inside. It scrolls in a box of its own, so that a new alert
// never moves the charts below.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { reason, subject } from "./alerts.js";
import { moment } from "./format.js";

const html = htm.bind(h);
const EXAMPLE = `# what is unusual for a series
[[score]]
series = "*"

# a fixed limit
[[rule]]
when = "value > 80 for 30s"`;

export function AlertList({ rows, selected, configured, onSelect }) {
  if (!rows.length) return html`<div class="card alerts"><${NoAlerts} configured=${configured} /></div>`;
  const reachable = rows.some((one) => one.key === selected) ? selected : rows[0].key;
  return html`
    <div class="card alerts">
      <ol class="list" role="list" onKeyDown=${move}>${rows.map((one) => html`
        <${Item} key=${one.key} alert=${one} on=${one.key === selected} reachable=${one.key === reachable}
          onSelect=${onSelect} />`)}</ol>
    </div>`;
}

function NoAlerts({ configured }) {
  if (configured) {
    return html`<p class="empty">No alerts yet: nothing was unusual, or what scores is still warming up.</p>`;
  }
  return html`<div class="empty">
    <p>No alerts yet. A gateway raises them once its configuration says what to score:</p>
    <pre><code>${EXAMPLE}</code></pre>
  </div>`;
}

function Item({ alert, on, reachable, onSelect }) {
  return html`
    <li><button type="button" class=${alert.live ? "fresh" : ""} aria-pressed=${on} tabIndex=${reachable ? 0 : -1}
      onClick=${() => onSelect(alert)}>
      <${When} alert=${alert} />
      <span class="what"><span class="name">${subject(alert)}</span> <span class="muted">${alert.gateway}</span>
        <span class="why">${reason(alert)}</span></span>
    </button></li>`;
}

/** The window's start; where the gateway's clock was not set, it would be a false one. */
function When({ alert }) {
  if (alert.domain) return html`<span class="muted">clock not set</span>`;
  return html`<time class="muted" datetime=${new Date(alert.start / 1e6).toISOString()}>${moment(alert.start)}</time>`;
}

const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

function move(event) {
  const step = STEPS[event.key];
  if (!step) return;
  event.preventDefault();
  const all = [...event.currentTarget.querySelectorAll("button")];
  const at = all.indexOf(document.activeElement) + step;
  all[Math.max(0, Math.min(all.length - 1, at))].focus();
}
