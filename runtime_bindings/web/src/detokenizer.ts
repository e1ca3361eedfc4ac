/** Decode an answer token by token, into whole characters. */
import { isObject } from "./records.js";

/** Decodes one answer; its pieces together are the text. */
export interface Detokenizer {
  /** Return the characters that `token` completes: often a word, sometimes nothing. */
  add(token: number): string;
  /** Return the rest: U+FFFD for bytes that never became a character. */
  finish(): string;
}

/** How a tokenizer spells bytes in its tokens, and how many spaces it drops at the start of a text. */
export interface ByteRule {
  bytesOf(token: string): Uint8Array;
  leadingSpaces: number;
  /** Whether added tokens are not spelled in bytes but stand for their own text. */
  addedAsText: boolean;
}

const SPACE = "\u2581"; // how sentencepiece writes a space
const REPLACEMENT = "\ufffd";
const encoder = new TextEncoder();

/**
 * Find the rule of a `decoder` in tokenizer.json: GPT-2's byte level, or sentencepiece with byte fallback. Null for
 * decoders that cannot work token by token, such as WordPiece.
 */
export function byteRule(decoder: unknown): ByteRule | null {
  if (!isObject(decoder)) return null;
  const steps = decoder["type"] === "Sequence" ? decoder["decoders"] : [decoder];
  if (!Array.isArray(steps) || !steps.every(isObject)) return null;
  const kinds = steps.map((step) => step["type"]).join(" ");
  if (kinds === "ByteLevel") return { bytesOf: byteLevel, leadingSpaces: 0, addedAsText: true };
  if (kinds !== "Replace ByteFallback Fuse" && kinds !== "Replace ByteFallback Fuse Strip") return null;
  const [replace, , , strip] = steps;
  const pattern = replace?.["pattern"];
  if (!isObject(pattern) || pattern["String"] !== SPACE || replace?.["content"] !== " ") return null;
  if (!strip) return { bytesOf: sentencepiece, leadingSpaces: 0, addedAsText: false };
  if (strip["content"] !== " " || strip["stop"] !== 0) return null;
  return { bytesOf: sentencepiece, leadingSpaces: Number(strip["start"]), addedAsText: false };
}

/** GPT-2's printable characters for the 256 bytes: printable bytes are themselves, the others follow from U+0100. */
function byteTable(): Map<string, number> {
  const plain = (byte: number): boolean =>
    (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || (byte >= 0xae && byte < 0x100);
  const table = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) table.set(String.fromCharCode(plain(byte) ? byte : next++), byte);
  return table;
}

const BYTES = byteTable();

/** A token that contains a character for no byte was written into the vocabulary by hand. */
function byteLevel(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => BYTES.get(character));
  return bytes.includes(undefined) ? encoder.encode(token) : Uint8Array.from(bytes as number[]);
}

function sentencepiece(token: string): Uint8Array {
  const found = /^<0x([0-9A-Fa-f]{2})>$/.exec(token);
  return found ? Uint8Array.of(parseInt(found[1] as string, 16)) : encoder.encode(token.replaceAll(SPACE, " "));
}

/** Joins bytes until they are valid UTF-8. The cost of a token does not grow with the answer. */
export class ByteDetokenizer implements Detokenizer {
  private readonly utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(
    private readonly bytesOf: (token: number) => Uint8Array,
    private leadingSpaces: number,
  ) {}

  add(token: number): string {
    return this.strip(this.utf8.decode(this.bytesOf(token), { stream: true }));
  }

  finish(): string {
    return this.strip(this.utf8.decode());
  }

  private strip(text: string): string {
    while (this.leadingSpaces && text) {
      if (text[0] !== " ") this.leadingSpaces = 0;
      else {
        text = text.slice(1);
        this.leadingSpaces--;
      }
    }
    return text;
  }
}

/**
 * Works for any tokenizer: decodes the last tokens with and without the new one and returns the difference, once it
 * ends in a whole character. The earlier tokens are included because they may change how the new one reads.
 */
export class WindowDetokenizer implements Detokenizer {
  private tokens: number[] = [];
  private given = 0;

  constructor(private readonly decode: (tokens: number[]) => string) {}

  add(token: number): string {
    this.tokens.push(token);
    const [text, before] = this.difference();
    if (text.endsWith(REPLACEMENT) || text.length <= before) return "";
    this.tokens = this.tokens.slice(this.given);
    this.given = this.tokens.length;
    return text.slice(before);
  }

  finish(): string {
    const [text, before] = this.difference();
    return text.slice(before);
  }

  private difference(): [text: string, before: number] {
    return [this.text(this.tokens), this.text(this.tokens.slice(0, this.given)).length];
  }

  private text(tokens: number[]): string {
    return tokens.length ? this.decode(tokens) : "";
  }
}
