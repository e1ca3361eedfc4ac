/** Parse an answer's Markdown while it grows: a finished block is not parsed again. */

import { type Block, lineStarts, type Located, parse, type References } from "./markdown.js";

/** Below this many characters, the unfinished end is parsed at every update; from there on, each time it has grown by an eighth. */
const SHORT = 512;

/** A block, with a key that changes if and only if it has to be drawn again. */
export interface KeyedBlock extends Block {
  key: string;
}

/** The difference that an update makes. */
export interface Change {
  /** The place of the first of `blocks`; those before stay. Null: all blocks stay. */
  from: number | null;
  blocks: KeyedBlock[];
  /** The end of the text that is not parsed yet, to be shown as it is behind the last block. */
  rest: string;
  /** The character before `rest`. */
  before: string;
}

/**
 * The blocks of a growing text. All updates together parse a number of characters that is linear in the text's length.
 *
 * A block is finished once another one begins on a line that is complete. Only a definition of a reference link can
 * change it later: then the blocks that may hold such links are parsed again, when there are 1, 2, 4, ... definitions,
 * and at the end.
 */
export class MarkdownStream {
  /** The characters given to the parser so far. */
  parsedCharacters = 0;
  private readonly finished: KeyedBlock[] = [];
  /** Where the finished blocks end. */
  private settled = 0;
  /** The end of what was parsed. */
  private seen = 0;
  private readonly references: References = Object.create(null) as References;
  private definitions = 0;
  private resolved = 0;

  /** Take the whole text so far, which begins with that of the last update. */
  update(text: string): Change {
    const grown = text.length - this.seen;
    const known = this.seen - this.settled;
    if (known > SHORT && grown < known / 8) {
      return { from: null, blocks: [], rest: text.slice(this.seen), before: text.charAt(this.seen - 1) };
    }
    return this.parse(text, false);
  }

  /** Take the finished text. */
  end(text: string): Change {
    return this.parse(text, true);
  }

  private parse(text: string, isLast: boolean): Change {
    this.seen = text.length;
    const from = this.finished.length;
    const tail = text.slice(this.settled);
    const references = Object.create(this.references) as References;
    const open = this.blocksOf(tail, references);
    const definitions = this.definitions + Object.keys(references).length;
    let isWhole = true; // not a definition that is cut off
    if (isLast) {
      Object.assign(this.references, references);
      this.finished.push(...this.keyed(open.splice(0)));
      this.settled = text.length;
    } else isWhole = this.settle(tail, open);
    const due = isLast ? definitions > this.resolved : isWhole && definitions >= Math.max(1, 2 * this.resolved);
    if (due) this.resolve(definitions, references);
    const first = due ? 0 : from;
    return { from: first, blocks: [...this.finished.slice(first), ...this.keyed(open)], rest: "", before: "" };
  }

  /** Move those of the `open` blocks in `tail` that are finished; return whether the last line is part of a block. */
  private settle(tail: string, open: Located[]): boolean {
    const starts = lineStarts(tail);
    const lines = starts.length - 1;
    const complete = /[\r\n]$/.test(tail) ? lines : lines - 1;
    let fixed = open.length - 1;
    while (fixed > 0 && (open[fixed]?.lines[0] ?? 0) >= complete) fixed--;
    const isWhole = complete === lines || open.at(-1)?.lines[1] === lines;
    const end = starts[open[fixed]?.lines[0] ?? 0] ?? 0;
    if (fixed <= 0) return isWhole;
    open.splice(0, fixed);
    // Once more, for the definitions in this part alone.
    this.finished.push(...this.keyed(this.blocksOf(tail.slice(0, end), this.references)));
    this.settled += end;
    this.definitions = Object.keys(this.references).length;
    return isWhole;
  }

  /** Parse the finished blocks that may hold reference links again. */
  private resolve(definitions: number, references: References): void {
    this.resolved = definitions;
    this.finished.forEach((block, place) => {
      if (!block.raw.includes("[")) return;
      const [again] = this.keyed(this.blocksOf(block.raw, Object.create(references) as References));
      if (again) this.finished[place] = again;
    });
  }

  private blocksOf(text: string, references: References): Located[] {
    this.parsedCharacters += text.length;
    return parse(text, references);
  }

  private keyed(blocks: readonly Block[]): KeyedBlock[] {
    return blocks.map(({ raw, render }) => ({ raw, render, key: raw.includes("[") ? `${this.resolved}:${raw}` : raw }));
  }
}

/** Split a whole text into its blocks. */
export function blocks(text: string): Block[] {
  return new MarkdownStream().end(text).blocks;
}
