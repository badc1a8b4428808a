// A chart with its heading; the canvas belongs to uPlot, the rest is drawn here.

import { Component, h } from "./vendor/preact.js";
import htm from "./vendor/htm.js";
import { Chart } from "./chart.js";
import { clock, value } from "./format.js";

const html = htm.bind(h);

export class Card extends Component {
  componentDidMount() {
    this.chart = new Chart(this.root, (index) => this.setState({ index }));
    this.props.onChart(this.chart);
  }

  componentWillUnmount() {
    this.props.onChart(null);
    this.chart.destroy();
  }

  render({ series, points, at, alerts, onRemove }, { index }) {
    const row = this.pointed(index) ?? points?.at(at) ?? points?.last;
    const reading = row ? `${value(row.mean)}, from ${value(row.minimum)} to ${value(row.maximum)}` : "no windows yet";
    return html`
      <article class="card">
        <div class="head">
          <h3><span class="gateway">${series.gateway}</span> <span class="name">${series.name}</span></h3>
          <button type="button" aria-label=${`Remove the chart of ${series.name}`}
            onClick=${() => onRemove(series.id)}>×</button>
        </div>
        <dl class="now">
          <div class="mean"><dt>Mean</dt><dd>${value(row?.mean)}</dd></div>
          <div><dt>Min</dt><dd>${value(row?.minimum)}</dd></div>
          <div><dt>Max</dt><dd>${value(row?.maximum)}</dd></div>
          <div><dt>At</dt><dd>${row ? clock(row.start) : "\u2013"}</dd></div>
        </dl>
        <div class="plot" role="img" aria-label=${`${series.name} of ${series.gateway}: ${reading}${marked(alerts)}`}
          ref=${(root) => { this.root = root; }}></div>
      </article>`;
  }

  /** The window under the cursor: the columns have holes the rows have not, so it is found by its time. */
  pointed(index) {
    const time = index === null || index === undefined ? undefined : this.chart.shown?.columns[0][index];
    return time === undefined ? undefined : this.props.points?.at(time * 1e9);
  }
}

function marked(alerts) {
  if (!alerts.length) return "";
  const times = alerts.slice(0, 3).map((one) => clock(one.start)).join(", ");
  return `; ${alerts.length} ${alerts.length > 1 ? "alerts" : "alert"} at ${times}${alerts.length > 3 ? " and before" : ""}`;
}
