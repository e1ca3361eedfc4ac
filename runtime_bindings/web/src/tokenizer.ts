/** Text goes in and token ids come out; token ids go in and text comes out, as the model's own tokenizer has it. */
import { Tokenizer as FastTokenizer } from "@huggingface/tokenizers";
import { parsed } from "./artefact.js";
import { ByteDetokenizer, type ByteRule, byteRule, type Detokenizer, WindowDetokenizer } from "./detokenizer.js";
import { ArgosyError, oneLine } from "./errors.js";
import { type Fields, isObject } from "./records.js";

/** A `tokenizer.json`, with what `tokenizer_config.json` says of special tokens and chats. */
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

  /** From the bytes of the artefact's files, by name. */
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

  /** What a chat template may name: `bos_token`, `eos_token` and so on, as far as the model has them. */
  get specialTokens(): Record<string, string> {
    const found: Record<string, string> = {};
    for (const [key, value] of Object.entries(this.config)) {
      const text = isObject(value) ? value["content"] : value;
      if (key.endsWith("_token") && typeof text === "string") found[key] = text;
    }
    return found;
  }

  /** Token ids. A chat template writes special tokens itself; plain text wants `addSpecialTokens`. */
  encode(text: string, addSpecialTokens = false): number[] {
    return text ? this.fast.encode(text, { add_special_tokens: addSpecialTokens }).ids : this.ofNothing(addSpecialTokens);
  }

  /** The text of tokens, without special ones. */
  decode(tokens: number[]): string {
    return tokens.length ? this.fast.decode(tokens, { skip_special_tokens: true }) : "";
  }

  /** The id of a token, by its exact text. */
  idOf(token: string): number | null {
    return this.fast.token_to_id(token) ?? null;
  }

  /** For the tokens of one answer, as they come. */
  detokenizer(): Detokenizer {
    const { rule } = this;
    if (!rule) return new WindowDetokenizer((tokens) => this.decode(tokens));
    return new ByteDetokenizer((token) => this.bytesOf(token, rule), rule.leadingSpaces);
  }

  /** The bytes that a token adds to a text; none for special tokens and ids without a token. */
  private bytesOf(token: number, rule: ByteRule): Uint8Array {
    const text = this.special.has(token) ? undefined : this.fast.id_to_token(token);
    return text === undefined ? new Uint8Array() : rule.bytesOf(text);
  }

  /** What the tokenizer makes of an empty text: at most special tokens. */
  private ofNothing(addSpecialTokens: boolean): number[] {
    return addSpecialTokens ? this.fast.encode("", { add_special_tokens: true }).ids : [];
  }
}
