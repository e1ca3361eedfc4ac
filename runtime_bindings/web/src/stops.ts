/** End a streamed text at the first stop string, without emitting any part of it. */
export class StopStrings {
  /** The stop string that ended the text, or null. */
  found: string | null = null;
  private held = "";

  constructor(private readonly stops: readonly string[]) {}

  /** Add a piece; returns the text that cannot belong to a stop string, and holds back what may begin one. */
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

  /** Return the text still held back. */
  finish(): string {
    const text = this.held;
    this.held = "";
    return text;
  }
}

/** Measure the longest suffix of `text` that is a proper prefix of `stop`. */
function overlap(text: string, stop: string): number {
  let length = Math.min(text.length, stop.length - 1);
  while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
  return length;
}
