// One chart: the mean as a line, minimum to maximum as a band behind it, a flag where a window raised an alert. Colours
// come from the style sheet.

import uPlot from "./vendor/uplot.js";
import { mark, ticks } from "./format.js";

const HEIGHT = 190;
const LEAST_SPAN = 60; // s: a chart that has just begun is not stretched over its whole range

function colours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(name).trim();
  return { line: of("--accent"), band: of("--band"), ink: of("--muted"), grid: of("--grid"), flag: of("--bad") };
}

function options(width, onCursor, onDraw) {
  const { line, band, ink, grid } = colours();
  const font = "11px system-ui, sans-serif";
  const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  const edge = { stroke: band, width: 1, points: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "time", setSeries: false }, y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: true, auto: false }, y: { range: room } },
    axes: [
      { ...axis, values: (_, splits) => ticks(splits), space: 76, size: 26, gap: 6 },
      { ...axis, values: (_, splits) => splits.map(mark), size: gutter, gap: 6, space: 34 },
    ],
    series: [{}, { stroke: line, width: 1.6, points: { show: sparse, size: 4, fill: line } }, edge, edge],
    bands: [{ series: [2, 3], fill: band }],
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.idx)], draw: [onDraw] },
  };
}

/** Points are drawn where there are few: a lone window has no line. */
function sparse(plot) {
  return plot.data[0].length < 40;
}

/** A little air above and below, also around a flat line. */
function room(_, low, high) {
  if (low === null || high === null) return [0, 1];
  const air = (high - low) * 0.08 || Math.abs(high) * 0.05 || 1;
  return [low - air, high + air];
}

/** As wide as the longest label needs. */
function gutter(plot, labels) {
  const longest = (labels ?? []).reduce((most, text) => Math.max(most, text.length), 3);
  return Math.min(84, 14 + longest * 6.4);
}

/** A pole at each time with a flag at its top; the selected one stands out by its width, too. */
function plant(plot, flags) {
  const { ctx, bbox } = plot;
  const unit = devicePixelRatio;
  ctx.save();
  ctx.fillStyle = colours().flag;
  for (const { time, selected } of flags) {
    const x = Math.round(plot.valToPos(time, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.globalAlpha = selected ? 1 : 0.6;
    ctx.fillRect(x, bbox.top, Math.round((selected ? 2.5 : 1) * unit), bbox.height);
    ctx.globalAlpha = 1;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x + 9 * unit, bbox.top + 4.5 * unit);
    ctx.lineTo(x, bbox.top + 9 * unit);
    ctx.fill();
  }
  ctx.restore();
}

export class Chart {
  #plot = null;
  #observe;

  constructor(root, onCursor) {
    this.root = root;
    this.onCursor = onCursor;
    this.#observe = new ResizeObserver(() => this.#resize());
    this.#observe.observe(root);
    this.rebuild();
  }

  /** Draw `columns` from `from` to `to` in seconds, with `flags` {time in s, selected}. */
  draw(shown) {
    const { columns, from, to, flags } = shown;
    const first = Math.min(columns[0][0] ?? to, to - LEAST_SPAN, ...flags.filter((one) => one.selected).map((one) => one.time));
    this.shown = shown;
    this.#plot.batch(() => {
      this.#plot.setData(columns, false);
      this.#plot.setScale("x", { min: Math.max(from, first), max: to });
    });
  }

  /** Begin again with the style sheet's present colours. */
  rebuild() {
    this.#plot?.destroy();
    const onDraw = (plot) => plant(plot, this.shown?.flags ?? []);
    this.#plot = new uPlot(options(this.root.clientWidth || 300, this.onCursor, onDraw), [[], [], [], []], this.root);
    if (this.shown) this.draw(this.shown);
  }

  destroy() {
    this.#observe.disconnect();
    this.#plot.destroy();
  }

  #resize() {
    const width = this.root.clientWidth;
    if (width && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }
}
