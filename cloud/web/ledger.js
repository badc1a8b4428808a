// What each gateway handed over, by epoch and lane; below that, in words, what is missing and what is odd.
//
// An epoch that has ended has no holes and nothing waits in it: what it still held was said again in the next one.

import { h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { count, moment, span } from "./format.js";
import { Table, Worry } from "./tables.js";
import { now } from "./feed.js";

const html = htm.bind(h);
const LOST = "frames."; // begins the counts of frames that were lost with an epoch: frames.{lane}.{cause}

const LANES = [
  ["Lane", (one) => html`<span class="name">${one.lane}</span>`],
  ["Received", (one) => count(one.received)],
  ["Duplicate", (one) => count(one.duplicate)],
  ["Quarantined", (one) => html`<${Worry} number=${one.quarantined} />`],
  ["Holes", (one) => (one.ended ? "\u2013" : html`<${Worry} number=${size(one.holes)} />`)],
  ["Dropped", (one) => html`<${Worry} number=${one.dropped_frames} />`],
  ["Waiting", (one) => (one.ended ? "\u2013" : count(one.queued))],
  ["Oldest", (one) => (one.ended || !one.since ? "\u2013" : span((now() - one.since / 1e6) / 1000))],
];

export function Ledger({ body }) {
  if (!body.gateways?.length) return html`<p class="empty">No frames yet.</p>`;
  return html`<div class="ledgers">${body.gateways.map((one) => html`
    <${Book} key=${one.gateway} account=${one} lanes=${body.ledger.filter((lane) => lane.gateway === one.gateway)} />`)}
  </div>`;
}

function Book({ account, lanes }) {
  const counted = counts(account.counts);
  return html`<article class="card">
    <h3>${account.gateway}</h3>
    ${account.epochs.map((epoch) => html`<${Epoch} key=${epoch.epoch} epoch=${epoch} name=${account.gateway}
      ended=${epoch.epoch !== account.epoch} lanes=${lanes.filter((one) => one.epoch === epoch.epoch)} />`)}
    ${counted.length > 0 && html`<ul class="notes">${counted.map((text) => html`<li key=${text} class="worry">${text}</li>`)}
    </ul>`}
  </article>`;
}

function Epoch({ epoch, name, ended, lanes }) {
  const odd = epoch.fork || epoch.remark;
  const shown = lanes.filter((lane) => !ended || lane.received || lane.dropped_frames);
  const drops = lanes.flatMap((lane) => lane.causes.map((cause) => ({ lane: lane.lane, ...cause })));
  return html`<div class="of-epoch">
    <p class="muted epoch">epoch <code>${epoch.epoch}</code>, ${ended ? "not in use; it began" : "since"} ${moment(epoch.began)}</p>
    ${odd && html`<p class="worry epoch">${odd}</p>`}
    ${shown.length > 0 && html`<${Table} caption=${`Lanes of ${name}, epoch ${epoch.epoch}`} columns=${LANES} words=${1}
      rows=${shown.map((lane) => ({ ...lane, ended }))} id=${(one) => one.lane} />`}
    <ul class="notes">${drops.map((one) => html`<li key=${`${one.lane} ${one.cause}`}>
      ${one.lane}: <span class="worry">${frames(one.frames)} dropped</span>, ${one.cause}${between(one)}</li>`)}</ul>
  </div>`;
}

/** When dropped frames had been spooled, as far as that is known. */
function between({ oldest, newest }) {
  if (oldest && newest) return `, spooled ${moment(oldest)} to ${moment(newest)}`;
  if (newest) return `, spooled before ${moment(newest)}`;
  return oldest ? `, spooled after ${moment(oldest)}` : "";
}

/** What a gateway itself counts as lost. */
function counts(said) {
  const broker = said.broker ? [`Its broker dropped ${count(said.broker)} messages, of this or other clients.`] : [];
  const lost = Object.entries(said).filter(([name]) => name.startsWith(LOST)).map(([name, n]) => {
    const [lane, cause] = name.slice(LOST.length).split(".");
    return `${lane}: ${frames(n)} lost with an earlier epoch, ${cause}`;
  });
  return [...broker, ...lost];
}

const frames = (n) => `${count(n)} ${n === 1 ? "frame" : "frames"}`;

const size = (ranges) => ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
