/** Render a conversation with the model's own chat template. */
import { ArgosyError, oneLine } from "./errors.js";
import { checkVariables } from "./messages.js";
import { type Fields, isObject } from "./records.js";
import { LimitExceeded, Refusal } from "./template/budget.js";
import { templateFunctions } from "./template/functions.js";
import { run } from "./template/interpreter.js";
import { parse, type Statement } from "./template/parser.js";
import { fromPlain } from "./template/values.js";
import type { ContentPart, Message } from "./types.js";

export { checkMessages, ROLES } from "./messages.js";

const UNTRUSTED = "get the model from a source you trust";
const MESSAGE_KEYS = ["role", "content", "tool_calls", "name", "type", "text"];
const REASONING_KEYS = ["reasoning_content", "thinking", "reasoning"];
const PROBE = "PROBE-OF-THE-CONTENT";
const END = "END-OF-THE-FINAL-MESSAGE "; // the space shows whether the template strips the text

type Prepared = Fields & { content?: unknown };

export interface RenderOptions {
  addGenerationPrompt?: boolean;
  /** End where the content of the last message does, for the model to continue it. */
  continueFinalMessage?: boolean;
}

/** A model's Jinja template, with the special tokens that it may use. */
export class ChatTemplate {
  private readonly program: Statement[];
  private readonly takesParts = new Map<string, boolean>();
  private readonly renderedKinds = new Set(["user", "assistant"]);
  private takesText: boolean | undefined;

  constructor(
    private readonly source: string,
    private readonly specialTokens: Readonly<Record<string, string>> = {},
  ) {
    try {
      this.program = parse(source);
    } catch (error) {
      throw error instanceof LimitExceeded || error instanceof RangeError ? forbidden(error) : broken(error);
    }
  }

  /** The words that the template may compare roles with. */
  get words(): Set<string> {
    const words = [...this.source.matchAll(/["']([A-Za-z][\w-]{0,40})["']/g)].map((match) => match[1] as string);
    return new Set(words.filter((word) => !MESSAGE_KEYS.includes(word)));
  }

  /**
   * Render a conversation up to where the assistant's answer begins; `more` are further variables. A template that does
   * not know lists of parts gets their text, and one that knows only those gets text as a list.
   */
  render(messages: readonly Message[], more: Fields = {}, options: RenderOptions = {}): string {
    const variables = checkVariables(more);
    const adapted = messages.map((message) => this.adapted(withReasoning({ ...message })));
    if (options.continueFinalMessage) return this.continued(adapted, variables);
    return this.run(adapted, options.addGenerationPrompt ?? true, variables);
  }

  /** Refuse a conversation if the template leaves messages of a role, or tool calls, silently out. */
  checkHandled(messages: readonly Message[], variables: Fields): void {
    const kinds = new Set<string>(messages.map((message) => message.role));
    if (messages.some((message) => message["tool_calls"])) kinds.add("tool_calls");
    for (const kind of kinds) {
      if (this.renderedKinds.has(kind)) continue;
      const without = messages.filter((message) => message.role !== kind).map((message) => omit(message, kind));
      let same: boolean;
      try {
        same = this.render(messages, variables) === this.render(without, variables);
      } catch (error) {
        if (error instanceof ArgosyError) continue; // the template needs them, or refuses them itself
        throw error;
      }
      if (same) {
        const what = kind === "tool_calls" ? "`tool_calls`" : `messages of the role \`${oneLine(kind)}\``;
        throw new ArgosyError(`the model's chat template leaves ${what} out`, "the model was trained without them");
      }
      this.renderedKinds.add(kind);
    }
  }

  private run(messages: Prepared[], addGenerationPrompt: boolean, more: Fields): string {
    const variables = new Map(
      Object.entries({
        tools: null,
        documents: null,
        ...this.specialTokens,
        ...more,
        messages,
        add_generation_prompt: addGenerationPrompt,
      }).map(([name, value]) => [name, fromPlain(value)]),
    );
    try {
      return run(this.program, templateFunctions, variables);
    } catch (error) {
      if (error instanceof Refusal) {
        throw new ArgosyError(`the model's chat template refuses this conversation: \`${oneLine(error)}\``);
      }
      if (error instanceof LimitExceeded || error instanceof RangeError) throw forbidden(error);
      if (messages.some((message) => typeof message.content !== "string")) {
        throw new ArgosyError(
          `the model's chat template does not know messages without text as their content: \`${oneLine(error)}\``,
          "give every message text as its `content`",
        );
      }
      throw broken(error);
    }
  }

  private continued(messages: Prepared[], variables: Fields): string {
    const last: Prepared = { ...messages.at(-1) };
    const parts = Array.isArray(last.content) ? (last.content as ContentPart[]) : [];
    const final = typeof last.content === "string" ? last.content : parts.at(-1)?.text;
    if (final === undefined) {
      throw new ArgosyError("the last message has no text to continue", "end with a message by the user or a tool");
    }
    last.content =
      typeof last.content === "string" ? final + END : [...parts.slice(0, -1), { ...parts.at(-1), text: final + END }];
    const text = this.run([...messages.slice(0, -1), last], false, variables);
    const place = text.lastIndexOf(END.trim());
    if (place < 0 || !text.includes(final.trim())) {
      throw new ArgosyError(
        "the model's chat template changes the last message, so that it cannot be continued",
        "end with a message by the user or a tool",
      );
    }
    return text.startsWith(END, place) ? text.slice(0, place) : text.slice(0, place).trimEnd();
  }

  /** Give a message's content the form that the template takes: text, or a list of parts of text. */
  private adapted(message: Prepared): Prepared {
    const { content } = message;
    const role = String(message["role"]);
    if (Array.isArray(content) && content.length && !this.knowsParts(role)) {
      return { ...message, content: (content as ContentPart[]).map((part) => part.text).join("\n") };
    }
    if (typeof content === "string" && !this.knowsText() && this.knowsParts(role)) {
      return { ...message, content: [{ type: "text", text: content }] };
    }
    return message;
  }

  private knowsText(): boolean {
    return (this.takesText ??= this.probe("user", PROBE));
  }

  private knowsParts(role: string): boolean {
    const known = this.takesParts.get(role) ?? this.probe(role, [{ type: "text", text: PROBE }]);
    this.takesParts.set(role, known);
    return known;
  }

  /** Return whether the template writes this content as its text, and not as the list that it is. */
  private probe(role: string, content: unknown): boolean {
    const [message, question] = [{ role, content }, { role: "user", content }];
    const first = role === "system" || role === "developer";
    try {
      const text = this.run(role === "user" ? [question] : first ? [message, question] : [question, message], false, {});
      return text.includes(PROBE) && !text.includes(`'${PROBE}'`) && !text.includes(`"${PROBE}"`);
    } catch (error) {
      if (error instanceof ArgosyError) return false;
      throw error;
    }
  }
}

/** Give the text of an answer's reasoning under the names that templates read, as transformers does. */
function withReasoning(message: Prepared): Prepared {
  const reasoning = REASONING_KEYS.map((key) => message[key]).find((value) => value !== undefined && value !== null);
  return reasoning === undefined ? message : { thinking: reasoning, ...message, reasoning_content: reasoning };
}

function omit(message: Message, key: string): Message {
  return Object.fromEntries(Object.entries(message).filter(([name]) => name !== key)) as Message;
}

/** Find the template in `tokenizer_config.json`: a text, or the one named `default` in a list. */
export function selectTemplate(value: unknown): string | null {
  if (value === undefined || value === null || typeof value === "string") return value || null;
  const named = Array.isArray(value) ? value.filter(isObject) : [];
  const chosen = named.find((template) => template["name"] === "default") ?? named[0];
  if (typeof chosen?.["template"] !== "string") {
    throw new ArgosyError("`chat_template` is not a template or a list of named ones", "build the artefact again");
  }
  return chosen["template"];
}

function forbidden(error: unknown): ArgosyError {
  return new ArgosyError(`the model's chat template does something forbidden: \`${oneLine(error)}\``, UNTRUSTED);
}

function broken(error: unknown): ArgosyError {
  return new ArgosyError(`the model's chat template cannot be used: \`${oneLine(error)}\``, "use another model");
}
