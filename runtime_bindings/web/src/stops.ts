/** End a streamed text at the first stop string, without emitting any part of it. */

/** A text with hidden parts: `full` with them, `shown` without; `marks` has "1" for shown characters of `full`. */
interface Text {
  full: string;
  marks: string;
  shown: string;
}

const NOTHING: Text = { full: "", marks: "", shown: "" };

/**
 * Looks for several strings in a text that arrives in pieces. The text has hidden parts, the names of special tokens,
 * which are never returned: a stop string that contains one of the `special` names is looked for in the text with its
 * hidden parts, another one in the text without them.
 */
export class StopStrings {
  /** The stop string that ended the text, or null. */
  found: string | null = null;
  private readonly plain: readonly string[];
  private readonly marked: readonly string[];
  private held = NOTHING;

  constructor(stops: readonly string[], special: readonly string[] = []) {
    const isMarked = (stop: string): boolean => special.some((name) => name !== "" && stop.includes(name));
    this.plain = stops.filter((stop) => !isMarked(stop));
    this.marked = stops.filter(isMarked);
  }

  /**
   * Add a piece and then a hidden part; returns the text that cannot belong to a stop string, and holds back what may
   * begin one. `stop` says that the piece is the token of a whole stop string, which ends the text also where it is
   * decoded to less than that.
   */
  add(piece: string, hidden = "", stop: string | null = null): string {
    if (this.found !== null) return "";
    const text = this.then(piece, this.marked.length ? hidden : "");
    const place = this.place(text);
    if (place !== null) {
      this.held = NOTHING;
      return text.shown.slice(0, place);
    }
    if (stop !== null) {
      this.found = stop;
      return this.finish();
    }
    const keep = Math.max(0, ...this.plain.map((other) => overlap(text.shown, other)));
    let start = text.full.length - Math.max(0, ...this.marked.map((other) => overlap(text.full, other)));
    const end = Math.min(text.shown.length - keep, shownBefore(text, start));
    while (shownBefore(text, start) > end) start--;
    this.held = made(text.full.slice(start), text.marks.slice(start));
    return text.shown.slice(0, end);
  }

  /** Return the text still held back. */
  finish(): string {
    const text = this.held.shown;
    this.held = NOTHING;
    return text;
  }

  private then(shown: string, hidden: string): Text {
    const { full, marks } = this.held;
    return made(full + shown + hidden, marks + "1".repeat(shown.length) + "0".repeat(hidden.length));
  }

  /** Find the first stop string, the longest of several at one place; returns its place in the text that is shown. */
  private place(text: Text): number | null {
    const shown = this.plain.map((stop) => [text.shown.indexOf(stop), stop] as const);
    const full = this.marked.map((stop) => [text.full.indexOf(stop), stop] as const);
    const hidden = full.map(([at, stop]) => [at < 0 ? at : shownBefore(text, at), stop] as const);
    let place: number | null = null;
    for (const [at, stop] of [...shown, ...hidden]) {
      const better = place === null || at < place || (at === place && stop.length > (this.found ?? "").length);
      if (at >= 0 && better) [place, this.found] = [at, stop];
    }
    return place;
  }
}

function made(full: string, marks: string): Text {
  const shown = marks.includes("0") ? full.split("").filter((_, i) => marks[i] === "1").join("") : full;
  return { full, marks, shown };
}

/** Count the shown characters before a place in `full`. */
function shownBefore(text: Text, place: number): number {
  return text.marks.slice(0, place).replaceAll("0", "").length;
}

/** Measure the longest suffix of `text` that is a proper prefix of `stop`. */
function overlap(text: string, stop: string): number {
  let length = Math.min(text.length, stop.length - 1);
  while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
  return length;
}
