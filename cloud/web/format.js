// How numbers and times read. English on purpose: the page is, and a half-translated number misleads.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const measured = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const fixed = [0, 1, 2, 3, 4].map(
  (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
);
const scientific = new Intl.NumberFormat("en", { notation: "scientific", maximumSignificantDigits: 4 });
const minutes = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const seconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const NONE = "\u2013";

/** A count, every digit of it. */
export const count = (n) => (Number.isFinite(n) ? whole.format(n) : NONE);

const extreme = (n) => n !== 0 && (Math.abs(n) >= 1e9 || Math.abs(n) < 1e-3);

/** A measured value: as many decimals as its size leaves room for, so that it does not jitter from second to second. */
export function value(n) {
  if (!Number.isFinite(n)) return NONE;
  if (extreme(n)) return scientific.format(n);
  const before = Math.floor(Math.log10(Math.max(Math.abs(n), 1)));
  return fixed[Math.max(0, 3 - before)].format(n);
}

/** A value on an axis: no digits that say nothing. */
export const mark = (n) => (extreme(n) ? scientific : measured).format(n);

/** Bytes, in decimal units; a unit never stands alone on a line. */
export function bytes(n) {
  if (!Number.isFinite(n)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${n.toFixed(unit === 0 || n >= 100 ? 0 : 1)}\u00a0${units[unit]}`;
}

/** A span of seconds, in the unit a person would use. */
export function span(s) {
  if (!Number.isFinite(s)) return NONE;
  if (s < 0) return "0.0\u00a0s";
  if (s < 9.95) return `${s.toFixed(1)}\u00a0s`;
  if (s < 120) return `${Math.round(s)}\u00a0s`;
  if (s < 7200) return `${Math.round(s / 60)}\u00a0min`;
  return s < 172800 ? `${Math.round(s / 3600)}\u00a0h` : `${Math.round(s / 86400)}\u00a0d`;
}

/** Nanoseconds since 1970 as the time of day. */
export const clock = (ns) => seconds.format(ns / 1e6);

/** Nanoseconds since 1970 as the time of day, with the day where it is not today. */
export const moment = (ns) => {
  const then = new Date(ns / 1e6);
  return then.toDateString() === new Date().toDateString() ? seconds.format(then) : `${day.format(then)} ${clock(ns)}`;
};

/** A share of one. */
export const percent = (share) => `${Math.round(share * 100)}\u00a0%`;

/** Axis labels for seconds since 1970: seconds only where ticks are closer than a minute. */
export const ticks = (splits) => {
  const fine = splits.length > 1 && splits[1] - splits[0] < 60;
  return splits.map((s) => (fine ? seconds : minutes).format(s * 1000));
};
