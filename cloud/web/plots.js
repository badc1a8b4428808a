// The charts on the page and the windows they show: `minutes` up to `end`, or up to now while that is null.

import * as feed from "./feed.js";
import { Points } from "./points.js";

const OVERLAP = 60_000; // ms read again after a reconnect: revisions may have been missed
const SHORT_AGO = 0.9; // of the time shown: what is older is about to leave it
const NOTHING = [[], [], [], []];

export class Plots {
  minutes = 15;
  end = null; // ms
  ids = []; // of the series shown
  #points = new Map();
  #charts = new Map();
  #whole = new Set(); // ids whose points reach back over all that is shown: what is live alone does not

  /** `flags` gives the alerts of a series, {time in s, selected}; `changed` hears that there is more to see. */
  constructor(flags, changed) {
    this.flags = flags;
    this.changed = changed;
  }

  points(id) {
    return this.#points.get(id);
  }

  /** A chart came onto the page; null: it went. */
  hang(id, chart) {
    if (chart === null) this.#charts.delete(id);
    else this.#charts.set(id, chart);
    this.draw(id);
  }

  /** Show these series and no others. */
  choose(ids) {
    this.ids = ids;
    this.#forget([...this.#points.keys()].filter((id) => !ids.includes(id)));
  }

  /** Show another time. True when that has to be read from the store first. */
  look(minutes, end) {
    const further = minutes > this.minutes || end !== this.end;
    this.minutes = minutes;
    this.end = end;
    if (further) this.#forget([...this.#points.keys()]);
    this.drawAll();
    return further;
  }

  /** Where charts must end (ms) to show this time (ns) too: now, if it was a short while ago. */
  around(start, minutes = this.minutes) {
    const span = minutes * 60_000;
    return start / 1e6 > feed.now() - span * SHORT_AGO ? null : start / 1e6 + span / 2;
  }

  /** Windows that have just been stored. */
  follow(rows) {
    if (this.end !== null) return;
    for (const id of this.ids) {
      const some = rows.filter((row) => row.series === id);
      if (some.length) this.#take(id, some);
    }
  }

  /** Read what the live stream could not bring: all that is shown, or since shortly before the newest known. */
  async catchUp() {
    await Promise.all(this.ids.map((id) => this.#catchUp(id)));
  }

  draw(id) {
    const some = this.#points.get(id);
    const newest = ((some?.newest ?? 0) + (some?.rows.length ? some.size : 0)) / 1e9;
    const to = this.end === null ? Math.max(feed.now() / 1000, newest) : this.end / 1000;
    const from = to - this.minutes * 60;
    some?.trim(from * 1e9);
    this.#charts.get(id)?.draw({ columns: some?.columns() ?? NOTHING, from, to, flags: this.flags(id) });
  }

  drawAll() {
    this.ids.forEach((id) => this.draw(id));
  }

  /** Begin again with other colours. */
  rebuild() {
    this.#charts.forEach((chart) => chart.rebuild());
  }

  #take(id, rows) {
    if (!this.#points.has(id)) this.#points.set(id, new Points());
    this.#points.get(id).put(rows);
    this.draw(id);
    this.changed();
  }

  async #catchUp(id) {
    const { end, minutes } = this;
    const begin = (end ?? feed.now()) - minutes * 60_000;
    const known = this.#whole.has(id) ? (this.#points.get(id)?.newest ?? 0) / 1e6 - OVERLAP : 0;
    for await (const rows of feed.windows(id, Math.max(begin, known), end)) {
      if (!this.ids.includes(id) || this.end !== end) return; // somebody looks elsewhere by now
      this.#take(id, rows);
    }
    if (this.minutes === minutes) this.#whole.add(id);
  }

  #forget(ids) {
    for (const id of ids) {
      this.#points.delete(id);
      this.#whole.delete(id);
    }
  }
}
