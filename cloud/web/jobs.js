// What is computed over the fleet: how far each job is, who is missing, and the newest results, as small charts where
// a result has a shape. `job` events tell of a job as it changes; /v1/jobs/{id} has its result.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { bytes, count, mark, moment, percent, span, value } from "./format.js";
import { Table } from "./tables.js";

const html = htm.bind(h);
export const SHOWN = 4; // jobs
const MOST_GROUPS = 6;
const WIDTH = 300;
const HEIGHT = 80;

const MOMENTS = [
  ["Group", (one) => html`<span class="name">${one.name}</span>`],
  ["Count", (one) => count(one.count)],
  ["Mean", (one) => value(one.mean)],
  ["Deviation", (one) => value(one.deviation)],
  ["Least", (one) => value(one.minimum)],
  ["Most", (one) => value(one.maximum)],
];

export const runs = (job) => job.state === "running" || job.state === "merging";

export function Jobs({ jobs, results }) {
  return html`<div class="jobs">${jobs.slice(0, SHOWN).map((job) => html`
    <${Job} key=${job.id} job=${job} found=${results.get(job.id)} />`)}</div>`;
}

function Job({ job, found }) {
  const missing = (found?.each ?? []).filter((part) => part.state !== "done");
  return html`<article class="card">
    <h3>${job.work} <small class="muted">${job.series.join(", ")}, ${moment(job.began)}</small></h3>
    <p class="about">${stands(job)}</p>
    <progress max=${job.parts} value=${job.done} aria-label=${`Gateways that have answered ${job.id}`}></progress>
    <p class="muted">${count(job.done)} of ${count(job.parts)} gateways, ${percent(job.complete)}${job.stored ? `, ${count(job.stored)} of them by windows
      stored here` : ""}; ${count(job.readings)} readings
      stayed there, ${bytes(job.bytes)} came up; ${span(job.seconds)}, the plan said ${span(job.predicted_s)}</p>
    ${found?.result && html`<${Result} work=${job.work} result=${found.result} />`}
    ${!runs(job) && missing.length > 0 && html`<ul class="notes">${missing.slice(0, MOST_GROUPS).map((part) => html`
      <li key=${part.gateway} class="worry">${part.gateway}: ${part.reason || (part.attempts ? "no answer" : "it was away")}</li>`)}</ul>`}
  </article>`;
}

function stands(job) {
  const lost = job.lost ? `, ${count(job.lost)} gave up` : "";
  if (job.state === "running") return `Waiting for ${count(job.parts - job.done - job.lost)} gateways${lost}.`;
  if (job.state === "merging") return "Merging what came.";
  if (job.state === "done" && !job.reason) return "Done: every gateway has answered.";
  const why = { deadline: "at its deadline", lost: "without those that gave up" }[job.reason] ?? job.reason;
  return `${job.state === "done" ? "Done" : job.state === "failed" ? "Failed" : "Cancelled"}${why ? `, ${why}` : ""}.`;
}

function Result({ work, result }) {
  const groups = Object.entries(result.groups ?? {}).slice(0, MOST_GROUPS);
  if (!groups.length) return null;
  if (work === "moments") {
    return html`<${Table} caption="Moments" columns=${MOMENTS} words=${1} id=${(one) => one.name}
      rows=${groups.map(([name, one]) => ({ name, ...one }))} />`;
  }
  const shapes = groups.map(([name, group]) => [name, shape(work, result, group)]).filter(([, one]) => one?.y.length);
  return shapes.length > 0 && html`<div class="shapes">${shapes.map(([name, one]) => html`
    <${Shape} key=${name} name=${name} ...${one} />`)}</div>`;
}

/** What a group's result looks like: x and y, drawn as bars or as a line. */
function shape(work, result, group) {
  if (work === "quantiles") return { x: result.shares, y: group.values, about: "value by share" };
  if (work === "spectrum") return { x: result.frequencies, y: group.density.map(decades), about: "Hz, log of density" };
  if (work !== "histogram") return null;
  if (Array.isArray(group)) return { x: group.map((_, at) => result.edges[at] ?? result.edges.at(-1)), y: group, bars: true };
  return { x: group.from, y: group.counts, bars: true };
}

const decades = (n) => (n > 0 ? Math.log10(n) : NaN);

function Shape({ name, x, y, bars, about }) {
  const good = y.filter(Number.isFinite);
  const least = bars ? 0 : Math.min(...good);
  const most = Math.max(...good);
  const [first, last] = [x[0], x[x.length - 1]];
  const up = (n) => HEIGHT - 2 - ((n - least) / (most - least || 1)) * (HEIGHT - 4);
  const along = (n) => ((n - first) / (last - first || 1)) * (WIDTH - 4) + 2;
  const wide = Math.max(1, WIDTH / y.length - 1);
  const at = (place) => (place * WIDTH) / y.length;
  const line = y.flatMap((n, place) => (Number.isFinite(n) ? [`${along(x[place]).toFixed(1)},${up(n).toFixed(1)}`] : []));
  return html`<figure><figcaption>${name} <small class="muted">${about}</small></figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${`${name}: from ${value(least)} to ${value(most)}`}>
      ${bars
        ? y.map((n, place) => html`<rect key=${place} x=${at(place)} y=${up(n)} width=${wide} height=${HEIGHT - up(n)} />`)
        : html`<polyline points=${line.join(" ")} />`}
    </svg>
    <p class="muted axis"><span>${mark(first)}</span><span>${mark(last)}</span></p></figure>`;
}
