// What gateways learn together: where each training stands, and its newest stages: who answered, was late, was refused
// and why. `training` events tell of a stage as it ends; /v1/trainings tells all.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { bytes, count } from "./format.js";
import { Table } from "./tables.js";

const html = htm.bind(h);
const MOST_ROWS = 8;

const COLUMNS = [
  ["Stage", (one) => html`<span class="name">${name(one)}</span>`],
  ["Answered", (one) => count(one.answered.length)],
  ["Bytes up", (one) => bytes(one.bytes_up)],
  ["Seconds", (one) => one.seconds.toFixed(2)],
  ["Right before", (one) => share(one.accuracy)],
];

export function Learning({ trainings }) {
  return html`<div class="trainings">${trainings.map((one) => html`<${Training} key=${one.name} ...${one} />`)}</div>`;
}

function Training(one) {
  const stages = one.history.filter((stage) => stage.run === one.run).slice(-MOST_ROWS);
  const notes = stages.flatMap(odd);
  return html`<article class="card">
    <h3>${one.name}</h3>
    <p class="about">${stands(one)}</p>
    ${one.privacy && html`<p class="about">${spent(one.privacy)}</p>`}
    ${stages.length > 0 && html`<${Table} caption=${`Stages of run ${one.run} of ${one.name}`} columns=${COLUMNS} words=${1}
      rows=${stages} id=${(stage) => `${stage.run}.${stage.round}.${stage.ended}`} />`}
    <ul class="notes">${notes.map((text) => html`<li key=${text} class="worry">${text}</li>`)}</ul>
  </article>`;
}

/** Where a training stands, in a sentence. */
function stands(one) {
  if (one.stage !== "rest") {
    const where = one.stage === "round" ? `round ${one.round} of ${one.rounds}` : one.stage;
    return `Run ${one.run}, ${where}: ${one.waiting.length ? `waiting for ${one.waiting.join(", ")}` : "nobody is asked"}.`;
  }
  if (!one.verdict) return "No run yet.";
  const before = one.before === null ? "" : `; what was in force: ${share(one.before)}`;
  const early = one.ended ? `${one.ended}, ` : "";
  return `Run ${one.run} ended: ${early}${one.verdict}, ${share(one.accuracy)} right${before}.`;
}

/** How a privacy budget stands, in a sentence. */
function spent(of) {
  const left = of.left ? `${count(of.left)} more are covered` : "no more is covered";
  return `Privacy: epsilon ${of.spent.toFixed(2)} of ${of.epsilon} spent in ${count(of.rounds)} rounds (delta ${of.delta}), ${left}.`;
}

/** What was not as it should be in a stage. */
function odd(stage) {
  const late = stage.late.map((gateway) => `${name(stage)}: ${gateway} was late`);
  const refused = Object.entries(stage.refused).map(([gateway, why]) => `${name(stage)}: ${gateway} was refused, ${why}`);
  return [...late, ...refused];
}

const name = (stage) => (stage.stage === "round" ? `round ${stage.round}` : stage.stage);

const share = (part) => (part === null ? "\u2013" : `${(100 * part).toFixed(1)} %`);
