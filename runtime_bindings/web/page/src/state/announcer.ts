/** Announce a streamed answer to screen readers, in whole sentences and at a pace they can follow. */

/** Milliseconds between two announcements. */
const PAUSE = 3000;

/** Announces an answer while it grows. `say` replaces the text of a live region. */
export class Announcer {
  private pending = "";
  private last = -Infinity;

  constructor(private readonly say: (text: string) => void) {}

  /** Begin a new answer; `now` in milliseconds. */
  begin(now: number): void {
    this.pending = "";
    this.last = now - PAUSE;
  }

  /** Add a piece; announce all whole sentences if enough time has passed since the last ones. */
  add(piece: string, now: number): void {
    this.pending += piece;
    if (now - this.last < PAUSE) return;
    const end = lastSentenceEnd(this.pending);
    if (end === 0) return;
    this.flush(end, now);
  }

  /** Announce the rest. */
  end(now: number): void {
    this.flush(this.pending.length, now);
  }

  private flush(end: number, now: number): void {
    const text = plain(this.pending.slice(0, end));
    this.pending = this.pending.slice(end);
    this.last = now;
    if (text !== "") this.say(text);
  }
}

/** Find the end of the last sentence or line that is certainly complete. */
function lastSentenceEnd(text: string): number {
  let end = 0;
  for (const match of text.matchAll(/[.!?…:]["”')\]]*\s|\n|[。！？]/g)) end = match.index + match[0].length;
  return end;
}

/** Remove Markdown's marks, which should not be read aloud. */
function plain(text: string): string {
  return text
    .replace(/^\s*(#{1,6}|[-*+>]|```.*)\s*/gm, "")
    .replace(/[*_`]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
