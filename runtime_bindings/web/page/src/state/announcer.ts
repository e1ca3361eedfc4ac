/** A streamed answer goes in; it comes out in whole sentences, seldom enough for a screen reader to follow. */

/** Milliseconds between two announcements. */
const PAUSE = 3000;

/** Says an answer as it grows. `say` replaces the text of a live region. */
export class Announcer {
  private pending = "";
  private last = -Infinity;

  constructor(private readonly say: (text: string) => void) {}

  /** A new answer begins; `now` in milliseconds. */
  begin(now: number): void {
    this.pending = "";
    this.last = now - PAUSE;
  }

  /** Takes a piece; says all whole sentences, if the last ones are long enough ago. */
  add(piece: string, now: number): void {
    this.pending += piece;
    if (now - this.last < PAUSE) return;
    const end = lastSentenceEnd(this.pending);
    if (end === 0) return;
    this.flush(end, now);
  }

  /** Says the rest. */
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

/** The place after the last sentence or line that is certainly whole. */
function lastSentenceEnd(text: string): number {
  let end = 0;
  for (const match of text.matchAll(/[.!?…:]["”')\]]*\s|\n|[。！？]/g)) end = match.index + match[0].length;
  return end;
}

/** Without the marks of Markdown, which nobody wants read aloud. */
function plain(text: string): string {
  return text
    .replace(/^\s*(#{1,6}|[-*+>]|```.*)\s*/gm, "")
    .replace(/[*_`]+/g, "")
    .replace(/\s+/g, " ")
    .trim();
}
