/** Convert between text and token ids with the model's own tokenizer. */
import { Tokenizer as FastTokenizer } from "@huggingface/tokenizers";
import { parsed } from "./artefact.js";
import { ByteDetokenizer, type ByteRule, byteRule, type Detokenizer, WindowDetokenizer } from "./detokenizer.js";
import { ArgosyError, oneLine } from "./errors.js";
import { type Fields, isObject } from "./records.js";
import { checkTokenizer } from "./tokenizer_rules.js";

/** A `tokenizer.json`, with the special tokens and chat settings of `tokenizer_config.json`. */
export class Tokenizer {
  private readonly fast: FastTokenizer;
  private readonly special: ReadonlyMap<number, string>;
  /** The other added tokens. */
  private readonly added: ReadonlyMap<number, string>;
  private readonly rule: ByteRule | null;

  constructor(
    tokenizer: Fields,
    readonly config: Fields = {},
  ) {
    try {
      checkTokenizer(tokenizer);
    } catch (error) {
      const message = `\`tokenizer.json\` is not accepted as a tokenizer: it ${oneLine(error)}`;
      throw new ArgosyError(message, "get the model from a source that you trust");
    }
    try {
      // Without a config, which would make the library clean up spaces and mark more tokens as special.
      this.fast = new FastTokenizer(tokenizer, { clean_up_tokenization_spaces: false });
    } catch (error) {
      const message = `\`tokenizer.json\` cannot be used: ${oneLine(error)}`;
      throw new ArgosyError(message, "this kind of tokenizer does not work in a browser yet");
    }
    const added = [...this.fast.get_added_tokens_decoder()];
    const texts = (special: boolean): Map<number, string> =>
      new Map(added.filter(([, token]) => token.special === special).map(([id, token]) => [id, token.content]));
    this.special = texts(true);
    this.added = texts(false);
    this.rule = byteRule(tokenizer["decoder"]);
  }

  /** Read it from the bytes of the artefact's files, by name. */
  static fromFiles(files: ReadonlyMap<string, Uint8Array>): Tokenizer {
    const json = (name: string): Fields => {
      const bytes = files.get(name);
      return bytes ? parsed(bytes, name) : {};
    };
    const template = files.get("chat_template.jinja");
    const config = { ...json("tokenizer_config.json") };
    if (template) config["chat_template"] = new TextDecoder().decode(template);
    return new Tokenizer(json("tokenizer.json"), config);
  }

  /** The special tokens for chat templates, such as `bos_token` and `eos_token`, if the model has them. */
  get specialTokens(): Record<string, string> {
    const found: Record<string, string> = {};
    const named = this.config["extra_special_tokens"];
    const values = Object.entries(this.config).filter(([key]) => key.endsWith("_token"));
    for (const [key, value] of [...values, ...Object.entries(isObject(named) ? named : {})]) {
      const text = isObject(value) ? value["content"] : value;
      if (typeof text === "string") found[key] = text;
    }
    return found;
  }

  /** Encode a text. Chat templates write special tokens themselves; for plain text set `addSpecialTokens`. */
  encode(text: string, addSpecialTokens = false): number[] {
    if (!text) return this.ofNothing(addSpecialTokens);
    return working("encode this text", () => this.fast.encode(text, { add_special_tokens: addSpecialTokens }).ids);
  }

  /** Decode tokens, without special ones. */
  decode(tokens: number[]): string {
    if (!tokens.length) return "";
    return working("decode these tokens", () => this.fast.decode(tokens, { skip_special_tokens: true }));
  }

  /** Look up a token's id by its exact text. */
  idOf(token: string): number | null {
    return this.fast.token_to_id(token) ?? null;
  }

  /** Find the tokens that stand for exactly this text, special ones by name; often there is none. */
  tokensOf(text: string): number[] {
    const ids = this.encode(text);
    const found = new Set([this.idOf(text), ...(ids.length === 1 ? ids : [])]);
    return [...found].filter((token): token is number => token !== null && this.textOf(token) === text);
  }

  /** Return the name of a special token, which is no part of an answer's text, and an empty text for others. */
  hiddenText(token: number): string {
    return this.special.get(token) ?? "";
  }

  /** The names of all special tokens. */
  get hiddenTexts(): string[] {
    return [...this.special.values()];
  }

  /** Make a detokenizer for one answer. */
  detokenizer(): Detokenizer {
    const { rule } = this;
    if (!rule) return new WindowDetokenizer((tokens) => this.decode(tokens));
    return new ByteDetokenizer((token) => this.bytesOf(token, rule), rule.leadingSpaces);
  }

  /** Return the bytes that a token adds to a text; none for special tokens and unknown ids. */
  private bytesOf(token: number, rule: ByteRule): Uint8Array {
    if (this.special.has(token)) return new Uint8Array();
    const added = rule.addedAsText ? this.added.get(token) : undefined;
    if (added !== undefined) return new TextEncoder().encode(added);
    const text = this.fast.id_to_token(token);
    return text === undefined ? new Uint8Array() : rule.bytesOf(text);
  }

  private textOf(token: number): string {
    const { rule } = this;
    return this.special.get(token) ?? (rule ? new TextDecoder().decode(this.bytesOf(token, rule)) : this.decode([token]));
  }

  /** The encoding of an empty text: special tokens, if any. */
  private ofNothing(addSpecialTokens: boolean): number[] {
    return addSpecialTokens ? this.fast.encode("", { add_special_tokens: true }).ids : [];
  }
}

/** Call the library; what it throws becomes one sentence. */
function working<Result>(what: string, call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    const message = `the model's tokenizer cannot ${what}: \`${oneLine(error)}\``;
    throw new ArgosyError(message, "get the model from a source that you trust");
  }
}
