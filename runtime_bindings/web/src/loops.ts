/** Notice that an answer says the same over and over, as Python's `LoopDetector` does. */

const LONGEST = 1500; // characters of a repeated passage
const EVERY = 40; // characters between two looks at the text
const MANY = 600; // how many characters a passage of up to `SHORT` characters fills before it is a loop
const FEW = 400; // and a longer one
const SHORT = 20;
const TIMES = 4; // how often a passage of up to `LONG` characters is there; a longer one once less
const LONG = 300;
const NUMBERED_TIMES = 6; // a passage that differs in its numbers only, such as the entries of a list
const LETTERS = 25; // that such a passage has at least; rows of figures are no loop

/** Watches a text that arrives in pieces. */
export class LoopDetector {
  private tail = "";
  private unseen = 0;
  /** The repeated passage. */
  found: string | null = null;

  /** Take the next piece of the text; return whether it loops. */
  add(piece: string): boolean {
    this.tail = (this.tail + piece).slice(-LONGEST * (TIMES - 1));
    this.unseen += piece.length;
    if (this.found === null && this.unseen >= EVERY) {
      this.unseen = 0;
      this.found = repeated(this.tail);
    }
    return this.found !== null;
  }
}

/** Return the shortest passage that `text` ends with several times in a row, as often as it takes for a loop. */
function repeated(text: string): string | null {
  for (const period of periods(text)) {
    const filled = Math.max(period <= SHORT ? MANY : FEW, period * (period <= LONG ? TIMES : TIMES - 1));
    if (repeats(text, period, filled)) return text.slice(-period);
  }
  const plain = text.replace(/[0-9]+/g, "0");
  for (const period of periods(plain)) {
    if (!repeats(plain, period, period * NUMBERED_TIMES)) continue;
    const passage = plain.slice(-period);
    return (passage.match(/\p{L}/gu) ?? []).length >= LETTERS ? passage : null;
  }
  return null;
}

/** Yield how far back the end of `text` was written before, shortest way first: it may repeat itself from there. */
function* periods(text: string): Generator<number> {
  const end = text.slice(-EVERY);
  const last = text.length - end.length;
  let place = last;
  while (place > 0 && (place = text.lastIndexOf(end, place - 1)) >= Math.max(0, last - LONGEST)) yield last - place;
}

/** Return whether the last `length` characters of `text` have this period. */
function repeats(text: string, period: number, length: number): boolean {
  const start = text.length - length;
  return start >= 0 && text.slice(start, text.length - period) === text.slice(start + period);
}
