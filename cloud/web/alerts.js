// What was unusual: the newest alerts, each once, newest first, never more than MOST; and what they say in words.
// An alert is read once, here: what an older cloud does not tell is left out, what is no alert is nothing.

import { count, mark, percent, value } from "./format.js";

export const MOST = 200;
const LATEST = 8.64e21; // ns: beyond it there are no dates
const MOST_MISSING = 2; // named; more are counted

export class Alerts {
  rows = [];

  /** Take what the cloud told; give those that are new, newest first. `live`: they have just come. */
  put(told, live = false) {
    const known = new Set(this.rows.map((one) => one.key));
    const fresh = new Map(list(told).map((one) => read(one, live)).filter(Boolean).map((one) => [one.key, one]));
    known.forEach((key) => fresh.delete(key));
    const all = [...this.rows, ...fresh.values()].sort((one, other) => other.raised - one.raised);
    this.rows = all.slice(0, MOST);
    return this.rows.filter((one) => fresh.has(one.key));
  }

  find(key) {
    return this.rows.find((one) => one.key === key);
  }

  /** Those that a chart of this series can show: the others have no time on our clock. */
  of(series) {
    return this.rows.filter((one) => !one.domain && one.members.some((member) => member.id === series));
  }
}

/** One alert as the page knows it; `members` are its series, the one that contributed most first. `own`: it is about the
    gateway itself. */
function read(told, live) {
  if (typeof told?.gateway !== "string" || time(told.start) === null) return null;
  const { gateway, start, revision = 0, rule = "", version = 0, domain = "" } = told;
  const series = list(told.series);
  return {
    key: [gateway, series.join("+"), start, revision, rule, domain].join(" "),
    gateway,
    start,
    rule: String(rule ?? ""),
    version: Number(version),
    domain,
    live,
    raised: (domain ? null : time(told.stamp)) ?? time(told.stored) ?? start,
    score: told.score,
    threshold: told.threshold,
    members: members(series, list(told.names), list(told.contributions)),
    missing: list(told.missing).map(String),
    own: Array.isArray(told.series) && !series.length,
    learnt: list(told.contributions).some(Number.isFinite),
  };
}

const list = (some) => (Array.isArray(some) ? some : []);
const time = (ns) => (Number.isFinite(ns) && Math.abs(ns) < LATEST ? ns : null);

function members(series, names, contributions) {
  const all = contributions.reduce((sum, one) => sum + Math.abs(one || 0), 0);
  return series
    .map((id, i) => ({ id, name: String(names[i] ?? `series ${id}`), share: Math.abs(contributions[i] || 0) / all }))
    .filter((one) => Number.isInteger(one.id))
    .sort((one, other) => other.share - one.share || 0);
}

/** Which series an alert is about; or that it is about the gateway itself. */
export function subject({ members, own }) {
  if (own) return "the gateway";
  const rest = members.length - 1;
  return `${members[0]?.name ?? "a series"}${rest > 0 ? ` and ${rest} more` : ""}`;
}

/** Why it was raised: the score against its threshold, what made most of it, and who judged. */
export function reason(alert) {
  const { members, score, threshold, rule } = alert;
  if (alert.own && rule === "broker") return `its broker dropped ${count(score)} ${score > 1 ? "messages" : "message"}`;
  const limit = Number.isFinite(threshold) ? ` against a threshold of ${mark(threshold)}` : "";
  const most = members.length > 1 && members[0].share > 0;
  return [
    `${rule || "score"}: ${rule && alert.learnt ? "score " : ""}${value(score)}${limit}`,
    most && `, ${percent(members[0].share)} of it from ${members[0].name}`,
    missing(alert.missing),
    judge(alert),
  ].filter(Boolean).join("");
}

function missing(names) {
  if (!names.length) return "";
  if (names.length > MOST_MISSING) return `; ${names.length} were missing`;
  return `; ${names.join(" and ")} ${names.length > 1 ? "were" : "was"} missing`;
}

function judge({ version, learnt }) {
  if (version > 0) return `; judged by the shared model, version ${version}`;
  return learnt ? "; learnt here" : "";
}
