/** Split a Jinja template into tokens, with `trim_blocks` and `lstrip_blocks` as transformers sets them. */

export type Kind = "data" | "block" | "endBlock" | "variable" | "endVariable" | "name" | "text" | "integer" | "real" | "operator" | "end";

export interface Token {
  kind: Kind;
  value: string;
  line: number;
}

const OPERATORS = ["**", "//", "==", "!=", ">=", "<=", ..."+-*/%~[](){}<>=.:|,;"];
const CLOSING: Record<string, string> = { "(": ")", "[": "]", "{": "}" };
const NUMBER = /(?:0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[0-9a-f])+|\d+(?:_\d+)*)/iy;
const REAL = /\d+(?:_\d+)*(?:(?:\.\d+(?:_\d+)*)?e[+-]?\d+(?:_\d+)*|\.\d+(?:_\d+)*)/iy;
const NAME = /[\p{L}\p{Nl}_][\p{L}\p{Nl}\p{Nd}\p{Mn}\p{Mc}_]*/uy;
const SPACES = /\s+/y;
const STRING = /'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"/sy;
const OPENING = /\{%|\{\{|\{#/g;
const RAW = /\{%[-+]?\s*raw\s*(-?)%\}/y;
const END_OF_RAW = /\{%([-+]?)\s*endraw\s*([-+]?)%\}/g;

export class TemplateSyntaxError extends Error {}

export function tokenize(source: string): Token[] {
  return new Lexer(source.replace(/\r\n|\r/g, "\n").replace(/\n$/, "")).run();
}

class Lexer {
  private readonly tokens: Token[] = [];
  private place = 0;
  private line = 1;
  private counted = 0;
  /** Whether the text from here on begins a line. */
  private lineStart = true;

  constructor(private readonly source: string) {}

  run(): Token[] {
    while (this.place < this.source.length) {
      OPENING.lastIndex = this.place;
      const opening = OPENING.exec(this.source);
      if (!opening) {
        this.add("data", this.source.slice(this.place));
        break;
      }
      const kind = opening[0];
      const before = this.source.slice(this.place, opening.index);
      this.place = opening.index;
      this.data(before, kind !== "{{", this.source.charAt(opening.index + 2));
      if (kind === "{#") this.comment();
      else if (!this.raw()) this.tag(kind === "{{");
    }
    this.add("end", "");
    return this.tokens;
  }

  private add(kind: Kind, value: string): void {
    for (; this.counted < this.place; this.counted++) if (this.source.charCodeAt(this.counted) === 10) this.line++;
    if (kind !== "data" || value) this.tokens.push({ kind, value, line: this.line });
  }

  /** Add the text before a tag, without the white space that the tag removes. */
  private data(text: string, statement: boolean, sign: string): void {
    let kept = text;
    if (sign === "-") {
      kept = text.trimEnd();
    } else if (statement && sign !== "+") {
      const start = text.lastIndexOf("\n") + 1;
      if ((start > 0 || this.lineStart) && !text.slice(start).trim()) kept = text.slice(0, start);
    }
    this.add("data", kept);
  }

  /** Go on behind a tag, and the white space that it removes. */
  private behind(sign: string, statement: boolean): void {
    this.lineStart = false;
    if (sign === "-") {
      while (this.place < this.source.length && !this.source.charAt(this.place).trim()) this.place++;
      this.lineStart = this.source.charAt(this.place - 1) === "\n";
    } else if (statement && sign !== "+" && this.source.charAt(this.place) === "\n") {
      this.place++;
      this.lineStart = true;
    }
  }

  private comment(): void {
    const end = this.source.indexOf("#}", this.place + 2);
    if (end < 0) throw new TemplateSyntaxError(`line ${this.line}: missing end of comment tag`);
    const sign = end > this.place + 2 ? this.source.charAt(end - 1) : "";
    this.place = end + 2;
    this.behind(sign, true);
  }

  private raw(): boolean {
    RAW.lastIndex = this.place;
    const begin = RAW.exec(this.source);
    if (!begin) return false;
    this.place = RAW.lastIndex;
    this.behind(begin[1] ?? "", true);
    END_OF_RAW.lastIndex = this.place;
    const end = END_OF_RAW.exec(this.source);
    if (!end) throw new TemplateSyntaxError(`line ${this.line}: missing end of raw directive`);
    const text = this.source.slice(this.place, end.index);
    this.data(text, true, end[1] ?? "");
    this.place = END_OF_RAW.lastIndex;
    this.behind(end[2] ?? "", true);
    return true;
  }

  private tag(variable: boolean): void {
    this.place += 2;
    if (/[-+]/.test(this.source.charAt(this.place))) this.place++;
    this.add(variable ? "variable" : "block", "");
    const close = variable ? "}}" : "%}";
    const open: string[] = [];
    for (;;) {
      this.match(SPACES);
      const sign = /^[-+]$/.test(this.source.charAt(this.place)) ? this.source.charAt(this.place) : "";
      const ends = this.source.startsWith(close, this.place + sign.length) && !(open.length && !sign && close === "}}");
      if (ends && (sign !== "+" || !variable)) {
        this.place += sign.length + 2;
        this.add(variable ? "endVariable" : "endBlock", "");
        this.behind(sign, !variable);
        return;
      }
      this.expression(open);
    }
  }

  private expression(open: string[]): void {
    if (this.place >= this.source.length) throw new TemplateSyntaxError(`line ${this.line}: unexpected end of template`);
    const real = this.source.charAt(this.place - 1) === "." ? null : this.match(REAL);
    if (real !== null) return this.add("real", real.replaceAll("_", ""));
    const integer = this.match(NUMBER);
    if (integer !== null) return this.add("integer", integer.replaceAll("_", ""));
    const name = this.match(NAME);
    if (name !== null) return this.add("name", name);
    const string = this.match(STRING);
    if (string !== null) return this.add("text", unescape(string.slice(1, -1), this.line));
    const operator = OPERATORS.find((one) => this.source.startsWith(one, this.place));
    if (operator === undefined) {
      throw new TemplateSyntaxError(`line ${this.line}: unexpected character ${JSON.stringify(this.source.charAt(this.place))}`);
    }
    if (CLOSING[operator] !== undefined) open.push(CLOSING[operator]);
    else if (Object.values(CLOSING).includes(operator) && open.pop() !== operator) {
      throw new TemplateSyntaxError(`line ${this.line}: unexpected '${operator}'`);
    }
    this.place += operator.length;
    this.add("operator", operator);
  }

  private match(pattern: RegExp): string | null {
    pattern.lastIndex = this.place;
    const found = pattern.exec(this.source);
    if (!found) return null;
    this.place += found[0].length;
    return found[0];
  }
}

const SIMPLE: Record<string, string> = { n: "\n", t: "\t", r: "\r", b: "\b", f: "\f", v: "\v", a: "\x07", "\n": "" };

/** Replace the escapes of a Python string. */
function unescape(text: string, line: number): string {
  return text.replace(/\\(x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|[0-7]{1,3}|[\s\S])/gi, (whole, escape: string) => {
    if (/^[0-7]/.test(escape)) return String.fromCharCode(parseInt(escape, 8));
    if (/^[xuU]./.test(escape)) {
      const code = parseInt(escape.slice(1), 16);
      if (code > 0x10ffff) throw new TemplateSyntaxError(`line ${line}: an escape beyond Unicode`);
      return String.fromCodePoint(code);
    }
    if (/^[xuUN]$/.test(escape)) throw new TemplateSyntaxError(`line ${line}: an escape that is cut off`);
    return SIMPLE[escape] ?? (/['"\\]/.test(escape) ? escape : whole);
  });
}
