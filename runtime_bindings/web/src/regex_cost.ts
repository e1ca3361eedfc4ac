/**
 * Decide whether a regular expression of a tokenizer can be searched for in any text in reasonable time: at most one
 * unbounded repetition may be undone when a later part does not match. The same as `argosy/support/regex_cost.py`,
 * which explains the rules; both are tested with the same expressions.
 */

const LENGTH = 16384;
const DEPTH = 12;
const BOUND = 64;
const SIZE = 20000;
const CHOICES = 256;

const INTERVAL = /\{(\d{1,9})(,?)(\d{0,9})\}|\{(,)(\d{1,9})\}/y;
const GROUP = /\?(?::|>|=|!|<=|<!|<[A-Za-z_]\w*>|[im]{0,2}(?:-[im]{1,2})?:)/y;
const FLAGS = /\(\?[im]{1,2}\)/y;
const BRACED = /[pPxu]\{[\^\w =:.-]{1,64}\}/y;
const HEX = /x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{4}/y;
const CHARACTERS = "sSdDwWhHnrtfvaeON";
const PLACES = "bBAzZ";

type Sequence = readonly RegexNode[];

/** A part of a pattern. Only look, group and repeat have `options`. */
interface RegexNode {
  kind: "character" | "place" | "look" | "group" | "repeat";
  options: readonly Sequence[];
  least: number;
  most: number | null;
}

/** The unbounded repetitions and the bounded choices that can be undone. */
interface Cost {
  unbounded: number;
  choices: number;
}

const NO_COST: Cost = { unbounded: 0, choices: 1 };

/** Return the number of characters of the shortest match. Throws an Error that says what is not accepted. */
export function shortestMatch(pattern: string): number {
  const options = parse(pattern);
  optionsAtEnd(options);
  return shortest(options);
}

function shortest(options: readonly Sequence[]): number {
  return Math.min(...options.map((sequence) => sequence.reduce((sum, part) => sum + shortestPart(part), 0)));
}

function shortestPart(part: RegexNode): number {
  if (part.kind === "place" || part.kind === "look") return 0;
  return part.kind === "character" ? 1 : part.least * shortest(part.options);
}

// -- cost

function optionsAtEnd(options: readonly Sequence[]): number {
  return Math.max(...options.map(atEnd));
}

function atEnd(sequence: Sequence): number {
  const required = sequence.map((part) => part.kind === "place" || part.kind === "look" || shortestPart(part) > 0);
  const last = Math.max(0, required.lastIndexOf(true));
  const before = sequence.slice(0, last).map(undone).reduce(then, NO_COST);
  const powers = sequence.slice(last).map(partAtEnd);
  const power = before.unbounded + (powers[0] ?? 0);
  if (power > 1) throw new Error("repeats several parts that may match the same text");
  if (before.choices > CHOICES) throw new Error("can match the same text in too many ways");
  return Math.max(power, ...powers, 0);
}

function partAtEnd(part: RegexNode): number {
  if (!part.options.length) return 0;
  if (part.kind === "look") return Math.max(optionsAtEnd(part.options), Number(repeats(part)));
  if (part.kind === "repeat" && part.least > 1) {
    const cost = undone(part);
    if (cost.choices > CHOICES) throw new Error("can match the same text in too many ways");
    return cost.unbounded;
  }
  if (part.kind === "repeat" && part.most === null && !shortest(part.options)) {
    throw new Error("repeats a part that may be empty");
  }
  return optionsAtEnd(part.options);
}

/** Return the cost of a part with something after it that may fail to match. */
function undone(part: RegexNode): Cost {
  if (!part.options.length) return NO_COST;
  if (part.kind === "look") return { unbounded: partAtEnd(part), choices: 1 };
  const inner = part.options.map((sequence) => sequence.map(undone).reduce(then, NO_COST)).reduce(alternatively);
  if (part.kind === "group") return inner;
  if (part.most === null) {
    if (inner.unbounded || inner.choices > 1 || !shortest(part.options)) {
      throw new Error("repeats a repetition or an alternative");
    }
    return { unbounded: 1, choices: 1 };
  }
  if (inner.unbounded && part.most > 1) throw new Error("repeats a repetition");
  const choices = (part.most - part.least + 1) * inner.choices ** part.most;
  return { unbounded: inner.unbounded, choices: Math.min(choices, CHOICES + 1) };
}

function then(one: Cost, other: Cost): Cost {
  const choices = Math.min(one.choices * other.choices, CHOICES + 1);
  return { unbounded: one.unbounded + other.unbounded, choices };
}

function alternatively(one: Cost, other: Cost): Cost {
  const choices = Math.min(one.choices + other.choices, CHOICES + 1);
  return { unbounded: Math.max(one.unbounded, other.unbounded), choices };
}

function repeats(part: RegexNode): boolean {
  const unbounded = part.kind === "repeat" && part.most === null;
  return unbounded || part.options.some((sequence) => sequence.some(repeats));
}

// -- syntax

function parse(pattern: string): readonly Sequence[] {
  if (pattern.length > LENGTH) throw new Error(`has more than ${LENGTH} characters`);
  const parser = new Parser(pattern);
  parser.place = parser.after(FLAGS, 0);
  const options = parser.options(0);
  if (parser.place !== pattern.length) throw new Error("has a `)` too many");
  return options;
}

function node(kind: RegexNode["kind"], options: readonly Sequence[] = [], least = 1, most: number | null = 1): RegexNode {
  return { kind, options, least, most };
}

class Parser {
  place = 0;
  private size = 0;

  constructor(private readonly pattern: string) {}

  /** Return the place after what `expression` matches at `place`, which is `place` if it does not. */
  after(expression: RegExp, place: number): number {
    return place + (this.found(expression, place)?.[0] ?? "").length;
  }

  /** Parse alternatives up to the end of their group. */
  options(depth: number): readonly Sequence[] {
    if (depth > DEPTH) throw new Error("has groups nested too deeply");
    const found: RegexNode[][] = [[]];
    while (this.place < this.pattern.length && this.pattern[this.place] !== ")") {
      if (this.pattern[this.place] === "|") {
        this.place++;
        found.push([]);
      } else {
        found[found.length - 1]?.push(this.repeated(depth));
      }
    }
    return found;
  }

  private found(expression: RegExp, place: number): RegExpExecArray | null {
    expression.lastIndex = place;
    return expression.exec(this.pattern);
  }

  private repeated(depth: number): RegexNode {
    const before = this.size;
    const part = this.single(depth);
    const { least, most, end } = this.quantifier();
    if (end === this.place) return part;
    if (part.kind === "place" || part.kind === "look") throw new Error("repeats a place");
    const largest = Math.max(least, most ?? 0);
    if (largest > BOUND) throw new Error(`repeats a part more than ${BOUND} times`);
    this.place = end;
    this.size = before + (this.size - before) * Math.max(least, most || 1);
    if (this.size > SIZE) throw new Error("is too large");
    return node("repeat", [[part]], least, most);
  }

  private quantifier(): { least: number; most: number | null; end: number } {
    const { pattern, place } = this;
    const letter = pattern[place] ?? "";
    const interval = this.found(INTERVAL, place);
    let end: number, least: number, most: number | null;
    if (letter === "*" || letter === "+" || letter === "?") {
      end = place + 1 + Number("?+".includes(pattern[place + 1] || "-"));
      least = Number(letter === "+");
      most = letter === "?" ? 1 : null;
    } else if (interval) {
      end = place + interval[0].length;
      end += Number(pattern[end] === "?" && interval[2] === ",");
      least = Number(interval[1] ?? 0);
      const upper = interval[3] || interval[5];
      most = upper ? Number(upper) : interval[2] ? null : least;
    } else {
      return { least: 1, most: 1, end: place };
    }
    if (most !== null && most < least) throw new Error("has bounds in the wrong order");
    if ("*+?".includes(pattern[end] || "-") || this.found(INTERVAL, end)) {
      throw new Error("has one quantifier after another");
    }
    return { least, most, end };
  }

  private single(depth: number): RegexNode {
    if (++this.size > SIZE) throw new Error("is too large");
    const letter = this.pattern[this.place] as string;
    if (letter === "(") return this.group(depth);
    if (letter === "[") {
      this.place = this.afterClass(this.place, 0);
      return node("character");
    }
    if (letter === "\\") return this.escape();
    if ("*+?".includes(letter) || this.found(INTERVAL, this.place)) throw new Error("has a quantifier after nothing");
    this.place++;
    return node("^$".includes(letter) ? "place" : "character");
  }

  private group(depth: number): RegexNode {
    const start = this.place + 1;
    const opening = this.found(GROUP, start)?.[0] ?? "";
    if (!opening && "?*".includes(this.pattern[start] || "-")) {
      throw new Error(`has a group \`${this.pattern.slice(this.place, this.place + 4)}\``);
    }
    this.place = start + opening.length;
    const options = this.options(depth + 1);
    if (this.place >= this.pattern.length) throw new Error("has an open group");
    this.place++;
    const behind = opening === "?<=" || opening === "?<!";
    if (behind && options.some((sequence) => sequence.some(repeats))) throw new Error("looks behind for a repetition");
    return node(behind || opening === "?=" || opening === "?!" ? "look" : "group", options);
  }

  private escape(): RegexNode {
    const start = this.place + 1;
    const letter = this.pattern[start] ?? "";
    const end = Math.max(this.after(BRACED, start), this.after(HEX, start));
    if (end > start) {
      this.place = end;
      return node("character");
    }
    const isPlace = letter !== "" && PLACES.includes(letter);
    if (!letter || (!isPlace && /[\p{L}\p{N}]/u.test(letter) && !CHARACTERS.includes(letter))) {
      throw new Error(`has the escape \`\\${letter}\``);
    }
    this.place = start + 1;
    return node(isPlace ? "place" : "character");
  }

  /** Return the place after the character class that begins at `place`. */
  private afterClass(place: number, depth: number): number {
    if (depth > DEPTH) throw new Error("has character classes nested too deeply");
    const { pattern } = this;
    place += 1 + Number(pattern[place + 1] === "^");
    if (pattern[place] === "]") throw new Error("has an empty character class");
    while (place < pattern.length) {
      if (pattern[place] === "]") return place + 1;
      if (pattern[place] === "[") place = this.afterClass(place, depth + 1);
      else place += pattern[place] === "\\" ? 2 : 1;
    }
    throw new Error("has an open character class");
  }
}
