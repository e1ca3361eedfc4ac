/** Text goes in piece by piece; it comes out up to the first stop string, and never a piece of one. */
export class StopStrings {
  /** The stop string that ended the text. */
  found: string | null = null;
  private held = "";

  constructor(private readonly stops: readonly string[]) {}

  /** The text that is certain not to belong to a stop string; what may be the beginning of one is held back. */
  add(piece: string): string {
    if (this.found !== null) return "";
    const text = this.held + piece;
    let place = Infinity;
    for (const stop of this.stops) {
      const at = text.indexOf(stop);
      const better = at < place || (at === place && stop.length > (this.found ?? "").length);
      if (at >= 0 && better) [place, this.found] = [at, stop];
    }
    const keep = this.found === null ? Math.max(0, ...this.stops.map((stop) => overlap(text, stop))) : 0;
    const end = this.found === null ? text.length - keep : place;
    this.held = this.found === null ? text.slice(end) : "";
    return text.slice(0, end);
  }

  /** What was held back and turned out to be text after all. */
  finish(): string {
    const text = this.held;
    this.held = "";
    return text;
  }
}

/** Length of the longest end of `text` that `stop` begins with, short of the whole of `stop`. */
function overlap(text: string, stop: string): number {
  let length = Math.min(text.length, stop.length - 1);
  while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
  return length;
}
