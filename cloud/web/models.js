// Which gateway runs which version of which model, what was raised there and what the model would have raised, and what
// a gateway refused. The fleet says versions every second, /v1/models the rest; either may lack.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { bytes, count, moment } from "./format.js";
import { Table } from "./tables.js";

const html = htm.bind(h);
const MOST_ROWS = 100;
const MOST_NOTES = 5;

/** What a gateway's view tells: an older cloud tells neither. */
export const has = {
  models: (gateway) => Boolean(gateway.models),
  detectors: (gateway) => Object.keys(gateway.models ?? {}).length > 0 || gateway.alerts > 0 || gateway.shadow > 0,
};

const COLUMNS = [
  ["Gateway", (one) => html`<span class="name">${one.gateway}</span>`],
  ["Model", (one) => one.model || html`<span class="muted">none</span>`],
  ["Version", (one) => html`<${Version} ...${one} />`],
  ["Alerts", (one) => count(one.alerts)],
  ["In shadow", (one) => count(one.shadow)],
];

export function Models({ gateways, models }) {
  const published = list(models).filter((model) => model.name);
  const rows = lines(gateways, published);
  if (!rows.some((one) => one.model)) return html`<${NoModels} />`;
  return html`
    <p class="about">Alerts were raised on the gateway: by what it learnt itself, or by the model while that warmed up. In
      the shadow is what the model would have raised elsewhere, without effect.</p>
    <${Table} caption="Models on gateways" columns=${COLUMNS} rows=${rows.slice(0, MOST_ROWS)}
      id=${(one) => `${one.gateway} ${one.model}`} />
    ${rows.length > MOST_ROWS && html`<p class="muted note">${count(rows.length - MOST_ROWS)} more.</p>`}
    <ul class="notes">
      ${refusals(rows).map((one) => html`<li key=${`${one.gateway} ${one.model}`}>
        <span class="worry">${one.gateway} refused ${one.model} ${one.refused.version}</span>: ${why(one.refused)}</li>`)}
      ${troubles(rows).map(({ one, word, said }) => html`<li key=${`${one.gateway} ${one.model} ${word}`}>
        <span class="worry">${one.gateway} ${word} ${one.model} ${said.version}</span>: ${why(said)}</li>`)}
      ${published.slice(0, MOST_NOTES).map((model) => html`<li key=${model.name} class="muted">${origin(model)}</li>`)}
    </ul>`;
}

function NoModels() {
  return html`<p class="empty">No models yet. A gateway's <code>[[score]]</code> shares what it learnt; the cloud merges
    that into the next version, and gateways whose <code>[models]</code> holds the cloud's <code>public_key</code> take
    it.</p>`;
}

/** The version that runs; behind it the newest, where that is another. */
function Version({ version, newest }) {
  if (!version) return html`<span class="muted">none yet</span>`;
  return html`${count(version)}${newest > version && html` <span class="muted">of ${count(newest)}</span>`}`;
}

const list = (some) => (Array.isArray(some) ? some.filter(Boolean) : []);

/** A line per gateway and model; a gateway without models has one line all the same. */
function lines(gateways, published) {
  const rows = new Map();
  const row = (gateway, model) => {
    const key = JSON.stringify([gateway, model]);
    if (!rows.has(key)) rows.set(key, { gateway, model });
    return rows.get(key);
  };
  for (const model of published) {
    for (const run of list(model.gateways).filter((one) => one.gateway)) {
      Object.assign(row(run.gateway, model.name), run, { newest: model.version });
    }
  }
  const covered = new Set([...rows.values()].map((one) => one.gateway));
  for (const gateway of gateways.filter(has.models)) {
    const running = Object.entries(gateway.models);
    for (const [name, version] of running) row(gateway.name, name).version = version;
    if (running.length || covered.has(gateway.name)) continue;
    Object.assign(row(gateway.name, ""), { alerts: gateway.alerts, shadow: gateway.shadow });
  }
  const order = (one, other) => (one < other ? -1 : Number(one > other));
  return [...rows.values()].sort((a, b) => order(a.gateway, b.gateway) || order(a.model, b.model));
}

/** What was refused, unless something was applied since; newest first. */
function refusals(rows) {
  const open = rows.filter((one) => one.refused && one.reported?.outcome !== "applied");
  return open.sort((one, other) => (other.refused.stamp || 0) - (one.refused.stamp || 0)).slice(0, MOST_NOTES);
}

/** Where the version that runs was put in place of a worse one, or sees what it did not learn from; newest first. */
function troubles(rows) {
  const found = rows.flatMap((one) => [
    { one, word: "went back from", said: one.rolled_back },
    { one, word: "sees drift by", said: one.drifted },
  ]);
  const open = found.filter(({ one, said }) => said && said.version >= one.version);
  return open.sort((one, other) => (other.said.stamp || 0) - (one.said.stamp || 0)).slice(0, MOST_NOTES);
}

function why({ reason, stamp }) {
  return [reason || "no reason was given", stamp > 0 && moment(stamp)].filter(Boolean).join(", ");
}

/** Where the newest version comes from. */
function origin({ name, version, created, size, versions }) {
  if (!version) return `${name}: no version published yet`;
  const windows = list(versions).find((one) => one.version === version)?.windows;
  return [
    `${name} ${version}`,
    created > 0 && `made ${moment(created)}`,
    windows > 0 && `from ${count(windows)} windows`,
    size > 0 && bytes(size),
  ].filter(Boolean).join(", ");
}
