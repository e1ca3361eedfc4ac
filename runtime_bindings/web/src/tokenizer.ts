/** Convert between text and token ids with the model's own tokenizer. */
import { Tokenizer as FastTokenizer } from "@huggingface/tokenizers";
import { parsed } from "./artefact.js";
import { ByteDetokenizer, type ByteRule, byteRule, type Detokenizer, WindowDetokenizer } from "./detokenizer.js";
import { ArgosyError, oneLine } from "./errors.js";
import { type Fields, isObject } from "./records.js";

/** A `tokenizer.json`, with the special tokens and chat settings of `tokenizer_config.json`. */
export class Tokenizer {
  private readonly fast: FastTokenizer;
  private readonly special: ReadonlySet<number>;
  private readonly rule: ByteRule | null;

  constructor(
    tokenizer: Fields,
    readonly config: Fields = {},
  ) {
    try {
      this.fast = new FastTokenizer(tokenizer, config);
    } catch (error) {
      const message = `\`tokenizer.json\` cannot be used: ${oneLine(error)}`;
      throw new ArgosyError(message, "this kind of tokenizer does not work in a browser yet");
    }
    const added = this.fast.get_added_tokens_decoder();
    this.special = new Set([...added].filter(([, token]) => token.special).map(([id]) => id));
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
    for (const [key, value] of Object.entries(this.config)) {
      const text = isObject(value) ? value["content"] : value;
      if (key.endsWith("_token") && typeof text === "string") found[key] = text;
    }
    return found;
  }

  /** Encode a text. Chat templates write special tokens themselves; for plain text set `addSpecialTokens`. */
  encode(text: string, addSpecialTokens = false): number[] {
    return text ? this.fast.encode(text, { add_special_tokens: addSpecialTokens }).ids : this.ofNothing(addSpecialTokens);
  }

  /** Decode tokens, without special ones. */
  decode(tokens: number[]): string {
    return tokens.length ? this.fast.decode(tokens, { skip_special_tokens: true }) : "";
  }

  /** Look up a token's id by its exact text. */
  idOf(token: string): number | null {
    return this.fast.token_to_id(token) ?? null;
  }

  /** Make a detokenizer for one answer. */
  detokenizer(): Detokenizer {
    const { rule } = this;
    if (!rule) return new WindowDetokenizer((tokens) => this.decode(tokens));
    return new ByteDetokenizer((token) => this.bytesOf(token, rule), rule.leadingSpaces);
  }

  /** Return the bytes that a token adds to a text; none for special tokens and unknown ids. */
  private bytesOf(token: number, rule: ByteRule): Uint8Array {
    const text = this.special.has(token) ? undefined : this.fast.id_to_token(token);
    return text === undefined ? new Uint8Array() : rule.bytesOf(text);
  }

  /** The encoding of an empty text: special tokens, if any. */
  private ofNothing(addSpecialTokens: boolean): number[] {
    return addSpecialTokens ? this.fast.encode("", { add_special_tokens: true }).ids : [];
  }
}
