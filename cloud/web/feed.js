// Where the data comes from: reads over HTTP, then the live stream. Knows nothing of how it is shown.
//
// The stream is opened first and what it may have missed is read after it has opened, so nothing falls in between;
// reconnecting is the same path. A stream that stays silent for SILENCE is taken for dead.

const SILENCE = 30_000;
const RETRY = [1000, 2000, 4000, 8000, 15_000];
const PAGE = 1000;
const PAGES = 8;
const MOST_SERIES = 50_000;

/** The cloud asked who we are. */
export class SignInNeeded extends Error {}

/** Server clock minus ours in ms, from the newest answer: charts end at the server's now. */
let skew = 0;
export const now = () => Date.now() + skew;

async function get(path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [key, value] of Object.entries(query)) url.searchParams.set(key, value);
  const answer = await fetch(url, { headers: { accept: "application/json" }, cache: "no-store" });
  if (answer.status === 401) throw new SignInNeeded();
  if (!answer.ok) throw new Error(await refusal(path, answer));
  const date = Date.parse(answer.headers.get("date") ?? "");
  if (date && Math.abs(date - Date.now()) > 2000) skew = date - Date.now();
  return answer.json();
}

/** What the cloud says is wrong, in its own words where it has some. */
async function refusal(path, answer) {
  const body = await answer.json().catch(() => ({}));
  return body.error ? `${body.error.what}; ${body.error.do}` : `${path} answered ${answer.status}`;
}

export const gateways = async () => (await get("v1/gateways")).gateways;

const order = (one, other) => (one < other ? -1 : Number(one > other));

/** All series, by gateway, then in the order of their ids. */
export async function series() {
  const all = [];
  let after = {};
  while (after && all.length < MOST_SERIES) {
    const answer = await get("v1/series", after);
    all.push(...answer.series);
    after = answer.next ? { after: answer.next } : null;
  }
  return all.sort((one, other) => order(one.gateway, other.gateway) || one.id - other.id);
}

export const ledger = () => get("v1/ledger");

/** The newest alerts, newest first. */
export const alerts = async (limit) => (await get("v1/alerts", { limit })).alerts;

/** Models with the gateways that have them; what was reported of them long ago is left there. */
export const models = async () => (await get("v1/models", { limit: 1 })).models;

/** What gateways learn together. */
export const trainings = async () => (await get("v1/trainings")).trainings;

/** Jobs over the fleet, newest first; one of them with its parts and its result. */
export const jobs = async () => (await get("v1/jobs")).jobs;

export const job = (id) => get(`v1/jobs/${encodeURIComponent(id)}`);

const ns = (ms) => BigInt(Math.floor(ms)) * 1_000_000n;

/** All windows of a series from `from` to before `to` (ms); at most PAGES pages of them, given page by page. */
export async function* windows(id, from, to = null) {
  let start = ns(from);
  const bounds = to === null ? { limit: PAGE } : { limit: PAGE, to: ns(to) };
  for (let page = 0; page < PAGES; page += 1) {
    const answer = await get("v1/windows", { series: id, from: start, ...bounds });
    yield answer.windows;
    if (answer.next === null || answer.next === undefined) return;
    start = BigInt(answer.next);
  }
}

/** The live stream. `on.state` hears "connecting", "live" and "lost". */
export class Live {
  #source = null;
  #timer = 0;
  #watch = 0;
  #failures = 0;
  #ids = [];

  constructor(on) {
    this.on = on;
  }

  /** Follow these series from now on. */
  follow(ids) {
    this.#ids = [...ids];
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), this.#source ? 200 : 0);
  }

  #open() {
    this.#source?.close();
    const url = new URL("v1/live", document.baseURI);
    url.searchParams.set("series", this.#ids.join(","));
    const source = new EventSource(url);
    this.#source = source;
    source.addEventListener("open", () => this.#opened());
    source.addEventListener("error", () => this.#lost());
    this.#hear(source, "fleet", (body) => this.on.fleet(body.gateways));
    this.#hear(source, "windows", (body) => this.on.windows(body.rows));
    this.#hear(source, "alert", (body) => this.on.alert(body));
    this.#hear(source, "model", (body) => this.on.model(body));
    this.#hear(source, "job", (body) => this.on.job(body));
    this.#hear(source, "training", (body) => this.on.training(body));
    this.#listen();
  }

  #hear(source, event, take) {
    source.addEventListener(event, (message) => {
      this.#listen();
      take(JSON.parse(message.data));
    });
  }

  #opened() {
    this.#failures = 0;
    this.on.state("live");
    this.#listen();
  }

  #lost() {
    this.on.state("lost");
    clearTimeout(this.#watch);
    this.#source.close();
    const wait = RETRY[Math.min(this.#failures, RETRY.length - 1)];
    this.#failures += 1;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), wait * (0.5 + Math.random() / 2));
  }

  #listen() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost(), SILENCE);
  }
}
