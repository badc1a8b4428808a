// The page: one state, one `show` that draws it. Names of devices are text everywhere; nothing is ever parsed as HTML.

import { h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { AlertList } from "./alertlist.js";
import { Alerts, MOST as MOST_ALERTS } from "./alerts.js";
import { Aloud } from "./aloud.js";
import { Card } from "./card.js";
import * as feed from "./feed.js";
import { Models, has } from "./models.js";
import { Learning } from "./learning.js";
import { Jobs, SHOWN as JOBS_SHOWN, runs } from "./jobs.js";
import { Ledger } from "./ledger.js";
import { Fleet, SignIn, Totals, rates } from "./tables.js";
import { Picker } from "./picker.js";
import { moment } from "./format.js";
import { Plots } from "./plots.js";

const html = htm.bind(h);
const MOST_CHARTS = 12;
const FIRST_CHARTS = 6;
const RANGES = [1, 5, 15, 60]; // minutes
const LEDGER_EVERY = 5000;
const ASK_AFTER = 300; // ms: a version is news from every gateway, and one question
const NOTES = {
  connecting: "Connecting",
  live: "Live",
  lost: "Connection lost. Trying again; gateways keep collecting meanwhile.",
};

const state = {
  connection: "connecting",
  signIn: false,
  gateways: [],
  rate: {},
  series: [],
  touched: false, // has a person chosen? until then, new gateways bring their first series along
  filter: "",
  selected: "", // key of an alert
  said: null, // to a screen reader
  models: [],
  trainings: [],
  jobs: [], // newest first
  results: new Map(), // whole jobs that have ended, by id
  ledger: {},
  trouble: "",
};
const alerts = new Alerts();
const plots = new Plots(flags, show);

// What is drawn

function App() {
  if (state.signIn) return html`<${SignIn} />`;
  return html`
    <header class="top">
      <h1>Fieldgate</h1>
      <p class="connection ${state.connection}" role="status" aria-live="polite">${NOTES[state.connection]}</p>
    </header>
    <main>
      ${state.trouble && html`<p class="trouble" role="alert">${state.trouble}</p>`}
      <${Totals} gateways=${state.gateways} rate=${state.rate} />
      <section aria-labelledby="fleet"><h2 id="fleet">Fleet</h2><${Fleet} gateways=${state.gateways} /></section>
      <div class="pair">
        <section aria-labelledby="alerts">
          <h2 id="alerts">Alerts</h2>
          <p class="hidden" aria-live="polite">${state.said}</p>
          <${AlertList} rows=${alerts.rows} selected=${state.selected}
            configured=${state.gateways.some(has.detectors)} onSelect=${select} />
        </section>
        <section class="models" aria-labelledby="models"><h2 id="models">Models</h2>
          <${Models} gateways=${state.gateways} models=${state.models} /></section>
      </div>
      ${state.trainings.length > 0 && html`<section aria-labelledby="learning">
        <h2 id="learning">Learning</h2>
        <p class="about">What gateways learn together, each from its own readings: a stage ends when all who were asked
          have answered. How often the model is right is said by the gateways, of readings nobody has learnt from.</p>
        <${Learning} trainings=${state.trainings} />
      </section>`}
      ${state.jobs.length > 0 && html`<section aria-labelledby="jobs">
        <h2 id="jobs">Jobs</h2>
        <p class="about">Questions about raw history: each gateway computes its part where its readings are.</p>
        <${Jobs} jobs=${state.jobs} results=${state.results} />
      </section>`}
      <section aria-labelledby="series">
        <div class="bar"><h2 id="series">Series</h2>
          <div class="times">${plots.end !== null && html`<${Past} />`}<${Range} /></div></div>
        <div class="series">
          <${Picker} ...${state} chosen=${plots.ids} most=${MOST_CHARTS} onFilter=${filter} onToggle=${toggle} />
          <div class="charts">${chosen().map((one) => html`<${Card} key=${one.id} series=${one}
            points=${plots.points(one.id)} at=${plots.end === null ? null : alerts.find(state.selected)?.start}
            alerts=${alerts.of(one.id)} onChart=${(chart) => plots.hang(one.id, chart)} onRemove=${toggle} />`)}
            ${!plots.ids.length && html`<p class="empty">${hint()}</p>`}
          </div>
        </div>
      </section>
      <section aria-labelledby="ledger">
        <h2 id="ledger">Ledger</h2>
        <p class="about">What each gateway handed over, per lane: holes are still to come, what waits is still on the
          gateway, and what was dropped says why.</p>
        <${Ledger} body=${state.ledger} />
      </section>
    </main>`;
}

function hint() {
  if (!state.series.length) return "No series yet: they come with the first readings.";
  return "Choose series to see their charts.";
}

function Range() {
  const option = (minutes) => html`
    <label><input type="radio" name="range" value=${minutes} checked=${plots.minutes === minutes}
      onChange=${() => range(minutes)} /><span>${minutes < 60 ? `${minutes} min` : "1 h"}</span></label>`;
  return html`<fieldset class="range"><legend>Time shown</legend>${RANGES.map(option)}</fieldset>`;
}

function Past() {
  return html`<span class="past">to ${moment(plots.end * 1e6)}
    <button type="button" onClick=${() => look(plots.minutes, null)}>Back to now</button></span>`;
}

// What a person does

function filter(text) {
  state.filter = text;
  show();
}

function toggle(id) {
  state.touched = true;
  choose(plots.ids.includes(id) ? plots.ids.filter((other) => other !== id) : [...plots.ids, id]);
}

function range(minutes) {
  const start = alerts.find(state.selected)?.start;
  look(minutes, plots.end === null || !start ? plots.end : plots.around(start, minutes));
}

/** Show an alert's series first, with its time inside what the charts show; the same alert again takes that back. */
function select(alert) {
  const again = state.selected === alert.key;
  state.selected = again ? "" : alert.key;
  if (again) return look(plots.minutes, null);
  const ids = alert.members.map((one) => one.id);
  state.touched = true;
  choose([...ids, ...plots.ids.filter((id) => !ids.includes(id))]);
  look(plots.minutes, alert.domain ? plots.end : plots.around(alert.start));
  if (ids.some((id) => !state.series.some((one) => one.id === id))) guarded(loadSeries);
  requestAnimationFrame(() => document.querySelector(".charts .card")?.scrollIntoView({ block: "nearest" }));
}

/** Let the charts show so many minutes, up to `end` in ms, or up to now (null). */
function look(minutes, end) {
  if (plots.look(minutes, end)) guarded(() => plots.catchUp());
  keep();
  show();
}

function choose(ids) {
  const before = [...plots.ids].sort().join();
  plots.choose(ids.slice(0, MOST_CHARTS));
  keep();
  if ([...plots.ids].sort().join() !== before) live.follow(plots.ids);
  show();
}

function chosen() {
  const known = new Map(state.series.map((one) => [one.id, one]));
  return plots.ids.map((id) => known.get(id)).filter(Boolean);
}

/** Until somebody chooses: the first few series of each gateway. */
function propose() {
  if (state.touched || !state.series.length) return;
  const names = [...new Set(state.series.map((one) => one.gateway))];
  const each = Math.max(1, Math.min(3, Math.floor(FIRST_CHARTS / names.length)));
  const first = names.flatMap((name) => state.series.filter((one) => one.gateway === name).slice(0, each));
  const ids = first.slice(0, MOST_CHARTS).map((one) => one.id);
  if (ids.join() !== plots.ids.join()) choose(ids);
}

/** The choice stands in the address, so it survives a reload and can be sent to somebody. */
function keep() {
  const what = new URLSearchParams({ minutes: plots.minutes });
  if (state.touched) what.set("series", plots.ids.join(","));
  if (plots.end !== null) what.set("end", Math.round(plots.end));
  history.replaceState(null, "", `#${what}`);
}

function recall() {
  const what = new URLSearchParams(location.hash.slice(1));
  const minutes = Number(what.get("minutes"));
  if (RANGES.includes(minutes)) plots.minutes = minutes;
  const end = Number(what.get("end"));
  if (end > 0 && end < 8.64e15) plots.end = end;
  if (!what.has("series")) return;
  state.touched = true;
  plots.choose(what.get("series").split(",").map(Number).filter(Number.isInteger).slice(0, MOST_CHARTS));
}

// What arrives

const live = new feed.Live({
  state(connection) {
    state.connection = connection;
    if (connection === "live") guarded(refresh);
    show();
  },
  fleet(gateways) {
    const grown = total(gateways) !== total(state.gateways);
    takeFleet(gateways);
    if (grown) guarded(loadSeries);
    show();
  },
  windows(rows) {
    plots.follow(rows);
  },
  alert(told) {
    const fresh = alerts.put([told], true);
    mark(fresh);
    aloud.tell(fresh);
  },
  model() {
    asking ||= setTimeout(() => guarded(loadModels), ASK_AFTER);
  },
  job(told) {
    state.jobs = [told, ...state.jobs.filter((one) => one.id !== told.id)].sort((one, other) => other.began - one.began);
    guarded(loadResults);
    if (told.standing && told.state === "done") guarded(loadSeries); // its numbers may be the first of theirs
  },
  training() {
    askingTrainings ||= setTimeout(() => guarded(loadTrainings), ASK_AFTER);
  },
});

const aloud = new Aloud((text) => {
  state.said = text;
  show();
});

/** Draw the charts that new alerts are about. */
function mark(fresh) {
  const about = new Set(fresh.flatMap((alert) => alert.members.map((one) => one.id)));
  plots.ids.filter((id) => about.has(id)).forEach((id) => plots.draw(id));
  show();
}

function flags(id) {
  return alerts.of(id).map((one) => ({ time: one.start / 1e9, selected: one.key === state.selected }));
}

const total = (gateways) => gateways.reduce((sum, one) => sum + one.series, 0);

function takeFleet(gateways) {
  state.rate = rates(gateways);
  state.gateways = gateways;
}

async function refresh() {
  const [gateways] = await Promise.all([feed.gateways(), loadSeries(), loadAlerts(), loadLedger()]);
  takeFleet(gateways);
  show();
  await Promise.all([loadModels(), loadTrainings(), loadJobs(), plots.catchUp()]);
}

async function loadSeries() {
  state.series = await feed.series();
  propose();
  show();
}

async function loadAlerts() {
  mark(alerts.put(await feed.alerts(MOST_ALERTS)));
}

let asking = 0;

/** Only from a cloud that has models: an older one has no such address. */
async function loadModels() {
  clearTimeout(asking);
  asking = 0;
  if (state.gateways.some(has.models)) state.models = await feed.models();
  show();
}

let askingTrainings = 0;

/** Only from a cloud that has trainings: they come with the models. */
async function loadTrainings() {
  clearTimeout(askingTrainings);
  askingTrainings = 0;
  if (state.gateways.some(has.models)) state.trainings = await feed.trainings();
  show();
}

async function loadJobs() {
  if (state.gateways.some(has.models)) state.jobs = await feed.jobs();
  await loadResults();
}

/** What came of the jobs shown: asked for once, when they have ended. */
async function loadResults() {
  for (const job of state.jobs.slice(0, JOBS_SHOWN)) {
    if (!runs(job) && !state.results.has(job.id)) state.results.set(job.id, await feed.job(job.id));
  }
  show();
}

async function loadLedger() {
  state.ledger = await feed.ledger();
}

// What keeps it going

let drawing = 0;

/** Draw at the next frame, however many changes ask for it. */
function show() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    render(html`<${App} />`, root);
  });
}

/** Run something that asks the cloud; what fails is said on the page, and the stream's next opening tries again. */
async function guarded(action) {
  try {
    await action();
    state.trouble = "";
  } catch (problem) {
    if (problem instanceof feed.SignInNeeded) state.signIn = true;
    else state.trouble = `Some data could not be read: ${problem.message}.`;
  }
  show();
}

async function tick() {
  if (document.visibilityState === "visible" && state.connection === "live") {
    await guarded(() => Promise.all([loadLedger(), loadModels(), loadTrainings()]));
    plots.drawAll();
  }
  setTimeout(tick, LEDGER_EVERY);
}

const root = document.getElementById("app");
root.replaceChildren();
recall();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.rebuild());
guarded(loadSeries).then(() => state.signIn || live.follow(plots.ids));
tick();
