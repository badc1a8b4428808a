// The numbers: totals and the fleet. Roles are spelt out: on a narrow screen rows are laid out as cards.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { bytes, count, span } from "./format.js";
import { now } from "./feed.js";

const html = htm.bind(h);
const RATE_OVER = 10; // s

export function Totals({ gateways, rate }) {
  const sum = (of) => gateways.reduce((most, one) => most + (of(one) || 0), 0);
  const online = gateways.filter((one) => one.online).length;
  const readings = sum((one) => one.readings);
  const received = sum((one) => one.bytes);
  const facts = [
    ["Gateways online", `${count(online)} / ${count(gateways.length)}`],
    ["Series", count(sum((one) => one.series))],
    ["Readings", count(readings), rate.readings > 0 && `${count(rate.readings)} a second`],
    ["Windows", count(sum((one) => one.windows)), rate.windows > 0 && `${count(rate.windows)} a second`],
    ["Received", bytes(received), readings > 0 && `${(received / readings).toFixed(2)} B a reading`],
  ];
  const shadow = sum((one) => one.shadow);
  if (gateways.some((one) => "alerts" in one)) {
    facts.push(["Alerts", count(sum((one) => one.alerts)), shadow > 0 && `${count(shadow)} more in the shadow`]);
  }
  return html`<dl class="totals">${facts.map(([name, text, note]) => html`
    <div key=${name}><dt>${name}</dt><dd>${text} <small>${note || "\u00a0"}</small></dd></div>`)}</dl>`;
}

const seen = []; // [ms, readings, windows] of the last RATE_OVER seconds

/** Readings and windows a second, over the last few fleet reports. */
export function rates(gateways) {
  const sum = (key) => gateways.reduce((most, one) => most + (one[key] || 0), 0);
  const last = [performance.now(), sum("readings"), sum("windows")];
  seen.push(last);
  while (seen.length > 2 && last[0] - seen[0][0] > RATE_OVER * 1000) seen.shift();
  const s = (last[0] - seen[0][0]) / 1000;
  if (s < 2) return {};
  return { readings: (last[1] - seen[0][1]) / s, windows: (last[2] - seen[0][2]) / s };
}

const FLEET = [
  ["Gateway", (one) => html`<span class="name">${one.name}</span><${Trouble} gateway=${one} />`],
  ["State", (one) => html`<${State} gateway=${one} />`],
  ["Lag", (one) => (one.online ? span(one.lag_s) : "\u2013")],
  ["Series", (one) => count(one.series)],
  ["Windows", (one) => count(one.windows)],
  ["Readings", (one) => count(one.readings)],
  ["Bytes", (one) => bytes(one.bytes)],
  ["Frames", (one) => count(one.frames.received)],
  ["Duplicate", (one) => count(one.frames.duplicate)],
  ["Quarantined", (one) => html`<${Worry} number=${one.frames.quarantined} />`],
];
const WORDS = 2; // the first columns of a table are words, the rest numbers

export function Fleet({ gateways }) {
  if (!gateways.length) return html`<p class="empty">No gateway has called yet.</p>`;
  return html`<${Table} caption="Gateways" columns=${FLEET} rows=${gateways} id=${(one) => one.name} />`;
}

function State({ gateway }) {
  if (gateway.online) return html`<span class="state on"><i aria-hidden="true"></i>online</span>`;
  const silent = (now() - gateway.last_seen / 1e6) / 1000;
  const since = gateway.last_seen ? `, seen ${span(silent)} ago` : "";
  return html`<span class="state off"><i aria-hidden="true"></i>offline<span class="muted">${since}</span></span>`;
}

/** What a gateway says of others: its broker tells how much it dropped, and no device hears of it. */
function Trouble({ gateway }) {
  const dropped = gateway.counts?.broker ?? 0;
  if (!dropped) return null;
  return html`<span class="worry when">its broker dropped ${count(dropped)} ${dropped > 1 ? "messages" : "message"}</span>`;
}

export function Worry({ number }) {
  return html`<span class=${number ? "worry" : ""}>${count(number)}</span>`;
}

export function Table({ caption, columns, rows, id, words = WORDS }) {
  const kind = (i) => (i < words ? "word" : "number");
  return html`
    <table role="table">
      <caption class="hidden">${caption}</caption>
      <thead role="rowgroup"><tr role="row">${columns.map(([name], i) => html`
        <th key=${name} role="columnheader" scope="col" class=${kind(i)}>${name}</th>`)}</tr></thead>
      <tbody role="rowgroup">${rows.map((row) => html`
        <tr key=${id(row)} role="row">${columns.map(([name, cell], i) => html`
        <td key=${name} role="cell" class=${kind(i)} data-label=${name}>${cell(row)}</td>`)}</tr>`)}</tbody>
    </table>`;
}

export function SignIn() {
  return html`<main class="sign-in"><h1>Fieldgate</h1>
    <form action="login" method="get">
      <label><span>Admin token</span>
        <input type="password" name="token" autocomplete="current-password" required /></label>
      <button type="submit">Sign in</button>
      <p class="muted">It is in <code>admin.token</code>, in the cloud's data directory.</p>
    </form></main>`;
}
