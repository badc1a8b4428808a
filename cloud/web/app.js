// The page: one state, one `show` that draws it. Names of devices are text everywhere; nothing is ever parsed as HTML.

import { Component, h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { Chart } from "./chart.js";
import * as feed from "./feed.js";
import { Fleet, Ledger, SignIn, Totals, rates } from "./tables.js";
import { Picker } from "./picker.js";
import { clock, value } from "./format.js";
import { Points } from "./points.js";

const html = htm.bind(h);
const MOST_CHARTS = 12;
const FIRST_CHARTS = 6;
const RANGES = [1, 5, 15, 60]; // minutes
const LEDGER_EVERY = 5000;
const OVERLAP = 60_000; // ms read again after a reconnect: revisions may have been missed
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
  chosen: [],
  touched: false, // has a person chosen? until then, new gateways bring their first series along
  minutes: 15,
  filter: "",
  ledger: [],
  trouble: "",
};
const points = new Map(); // series id to Points
const charts = new Map(); // series id to Chart, of those on the page
const whole = new Set(); // series ids whose points reach back over all that is shown: what is live alone does not

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
      <section aria-labelledby="series">
        <div class="bar"><h2 id="series">Series</h2><${Range} /></div>
        <div class="series">
          <${Picker} ...${state} most=${MOST_CHARTS} onFilter=${filter} onToggle=${toggle} />
          <div class="charts">${chosen().map((one) => html`<${Card} key=${one.id} series=${one} />`)}
            ${!state.chosen.length && html`<p class="empty">${hint()}</p>`}
          </div>
        </div>
      </section>
      <section aria-labelledby="ledger">
        <h2 id="ledger">Ledger</h2>
        <p class="about">What each gateway handed over, per lane: everything up to a sequence, holes that are still to
          come, and what was dropped and why.</p>
        <${Ledger} ledger=${state.ledger} />
      </section>
    </main>`;
}

function hint() {
  if (!state.series.length) return "No series yet: they come with the first readings.";
  return "Choose series to see their charts.";
}

function Range() {
  const option = (minutes) => html`
    <label><input type="radio" name="range" value=${minutes} checked=${state.minutes === minutes}
      onChange=${() => range(minutes)} /><span>${minutes < 60 ? `${minutes} min` : "1 h"}</span></label>`;
  return html`<fieldset class="range"><legend>Time shown</legend>${RANGES.map(option)}</fieldset>`;
}

/** A chart with its heading; the canvas belongs to uPlot, the rest is drawn here. */
class Card extends Component {
  componentDidMount() {
    const id = this.props.series.id;
    this.chart = new Chart(this.root, (index) => this.setState({ index }));
    charts.set(id, this.chart);
    draw(id);
  }

  componentWillUnmount() {
    charts.delete(this.props.series.id);
    this.chart.destroy();
  }

  render({ series }, { index }) {
    const row = this.pointed(index) ?? points.get(series.id)?.last;
    const reading = row ? `${value(row.mean)}, from ${value(row.minimum)} to ${value(row.maximum)}` : "no windows yet";
    return html`
      <article class="card">
        <div class="head">
          <h3><span class="gateway">${series.gateway}</span> <span class="name">${series.name}</span></h3>
          <button type="button" aria-label=${`Remove the chart of ${series.name}`}
            onClick=${() => toggle(series.id)}>×</button>
        </div>
        <dl class="now">
          <div class="mean"><dt>Mean</dt><dd>${value(row?.mean)}</dd></div>
          <div><dt>Min</dt><dd>${value(row?.minimum)}</dd></div>
          <div><dt>Max</dt><dd>${value(row?.maximum)}</dd></div>
          <div><dt>At</dt><dd>${row ? clock(row.start) : "\u2013"}</dd></div>
        </dl>
        <div class="plot" role="img" aria-label=${`${series.name} of ${series.gateway}: ${reading}`}
          ref=${(root) => { this.root = root; }}></div>
      </article>`;
  }

  /** The window under the cursor: the columns have holes the rows have not, so it is found by its time. */
  pointed(index) {
    const time = index === null || index === undefined ? undefined : this.chart.shown?.[0][0][index];
    return time === undefined ? undefined : points.get(this.props.series.id)?.at(time * 1e9);
  }
}

// What a person does

function filter(text) {
  state.filter = text;
  show();
}

function toggle(id) {
  state.touched = true;
  choose(state.chosen.includes(id) ? state.chosen.filter((other) => other !== id) : [...state.chosen, id]);
}

function range(minutes) {
  const wider = minutes > state.minutes;
  state.minutes = minutes;
  if (wider) forget([...points.keys()]);
  keep();
  show();
  if (wider) state.chosen.forEach(catchUp);
}

function choose(ids) {
  state.chosen = ids.slice(0, MOST_CHARTS);
  forget([...points.keys()].filter((id) => !state.chosen.includes(id)));
  keep();
  live.follow(state.chosen);
  show();
}

function forget(ids) {
  for (const id of ids) {
    points.delete(id);
    whole.delete(id);
  }
}

function chosen() {
  const known = new Map(state.series.map((one) => [one.id, one]));
  return state.chosen.map((id) => known.get(id)).filter(Boolean);
}

/** Until somebody chooses: the first few series of each gateway. */
function propose() {
  if (state.touched || !state.series.length) return;
  const names = [...new Set(state.series.map((one) => one.gateway))];
  const each = Math.max(1, Math.min(3, Math.floor(FIRST_CHARTS / names.length)));
  const first = names.flatMap((name) => state.series.filter((one) => one.gateway === name).slice(0, each));
  const ids = first.slice(0, MOST_CHARTS).map((one) => one.id);
  if (ids.join() !== state.chosen.join()) choose(ids);
}

/** The choice stands in the address, so it survives a reload and can be sent to somebody. */
function keep() {
  const what = new URLSearchParams({ minutes: state.minutes });
  if (state.touched) what.set("series", state.chosen.join(","));
  history.replaceState(null, "", `#${what}`);
}

function recall() {
  const what = new URLSearchParams(location.hash.slice(1));
  const minutes = Number(what.get("minutes"));
  if (RANGES.includes(minutes)) state.minutes = minutes;
  if (!what.has("series")) return;
  state.touched = true;
  state.chosen = what.get("series").split(",").map(Number).filter(Number.isInteger).slice(0, MOST_CHARTS);
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
    for (const id of state.chosen) {
      const some = rows.filter((row) => row.series === id);
      if (some.length) take(id, some);
    }
    show();
  },
});

const total = (gateways) => gateways.reduce((sum, one) => sum + one.series, 0);

function takeFleet(gateways) {
  state.rate = rates(gateways);
  state.gateways = gateways;
}

function take(id, rows) {
  if (!points.has(id)) points.set(id, new Points());
  points.get(id).put(rows);
  draw(id);
}

function draw(id) {
  const some = points.get(id);
  const to = Math.max(feed.now() / 1000, ((some?.newest ?? 0) + (some?.rows.length ? some.size : 0)) / 1e9);
  const from = to - state.minutes * 60;
  some?.trim(from * 1e9);
  charts.get(id)?.draw(some?.columns() ?? [[], [], [], []], from, to);
}

async function refresh() {
  const [gateways] = await Promise.all([feed.gateways(), loadSeries(), loadLedger()]);
  takeFleet(gateways);
  show();
  await Promise.all(state.chosen.map(catchUp));
}

async function loadSeries() {
  state.series = await feed.series();
  propose();
  show();
}

async function loadLedger() {
  state.ledger = await feed.ledger();
}

/** Read what the live stream could not bring: all that is shown, or since shortly before the newest known. */
async function catchUp(id) {
  const begin = feed.now() - state.minutes * 60_000;
  const known = whole.has(id) ? points.get(id).newest / 1e6 - OVERLAP : 0;
  for await (const rows of feed.windows(id, Math.max(begin, known))) {
    if (!state.chosen.includes(id)) return;
    take(id, rows);
    show();
  }
  whole.add(id);
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
    await guarded(loadLedger);
    state.chosen.forEach(draw);
  }
  setTimeout(tick, LEDGER_EVERY);
}

const root = document.getElementById("app");
root.replaceChildren();
recall();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.rebuild()));
guarded(loadSeries).then(() => state.signIn || live.follow(state.chosen));
tick();
