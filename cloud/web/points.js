// The windows of one series that a chart shows: ordered by start, the higher revision wins, never more than LIMIT.

export const LIMIT = 20_000;
const GAP = 3; // a hole wider than this many usual steps breaks the line

export class Points {
  constructor() {
    this.rows = [];
    this.size = Infinity;
  }

  /** Start of the newest window in ns, or 0. */
  get newest() {
    return this.rows.length ? this.rows[this.rows.length - 1].start : 0;
  }

  get last() {
    return this.rows[this.rows.length - 1];
  }

  /** The window that starts at this time in ns, to the microsecond; undefined where there is none. */
  at(start) {
    const row = this.rows[this.#find(start - 500)];
    return row && Math.abs(row.start - start) < 1000 ? row : undefined;
  }

  /** Take rows of the finest window size seen; a finer one replaces all that was coarser. */
  put(rows) {
    for (const row of rows) {
      if (row.domain || row.size > this.size) continue;
      if (row.size < this.size) {
        this.size = row.size;
        this.rows = [];
      }
      this.#place(row);
    }
    if (this.rows.length > LIMIT) this.rows.splice(0, this.rows.length - LIMIT);
  }

  /** Forget windows that started before this time in ns. */
  trim(before) {
    const keep = this.#find(before);
    if (keep > 0) this.rows.splice(0, keep);
  }

  /** Columns for the chart: [time in s, mean, maximum, minimum], with a hole where windows are missing. */
  columns() {
    const out = [[], [], [], []];
    const limit = GAP * this.#step();
    let before = null;
    for (const row of this.rows) {
      if (before !== null && row.start - before > limit) push(out, (before + limit / GAP) / 1e9, null, null, null);
      push(out, row.start / 1e9, row.mean, row.maximum, row.minimum);
      before = row.start;
    }
    return out;
  }

  #place(row) {
    const last = this.rows.length;
    const at = last && this.rows[last - 1].start < row.start ? last : this.#find(row.start);
    const there = this.rows[at];
    if (!there || there.start !== row.start) this.rows.splice(at, 0, row);
    else if (row.revision >= there.revision) this.rows[at] = row;
  }

  #find(start) {
    let low = 0;
    let high = this.rows.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].start < start) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The usual distance between starts: the median over the newest hundred. */
  #step() {
    const tail = this.rows.slice(-100);
    const steps = tail.slice(1).map((row, i) => row.start - tail[i].start);
    steps.sort((a, b) => a - b);
    return Math.max(steps[steps.length >> 1] ?? 0, this.size);
  }
}

function push(columns, ...values) {
  values.forEach((v, i) => columns[i].push(v));
}
