// What a screen reader is told of new alerts: the first at once, those that follow together, a sentence in QUIET ms.

import { reason, subject } from "./alerts.js";

const QUIET = 5000;

export class Aloud {
  #count = 0;
  #newest = null;
  #timer = 0;

  /** `say` shows a sentence where a screen reader hears it. */
  constructor(say) {
    this.say = say;
  }

  tell(alerts) {
    if (!alerts.length) return;
    this.#count += alerts.length;
    this.#newest = alerts[0];
    if (!this.#timer) this.#speak();
  }

  #speak() {
    this.#timer = 0;
    if (!this.#count) return;
    const which = `${subject(this.#newest)} of ${this.#newest.gateway}`;
    this.say(this.#count > 1 ? `${this.#count} new alerts, the newest: ${which}`
      : `New alert: ${which}. ${reason(this.#newest)}`);
    this.#count = 0;
    this.#timer = setTimeout(() => this.#speak(), QUIET);
  }
}
