/** Keep the turns of a conversation and encode them as the prompt for the next answer. */
import { ArgosyError } from "./errors.js";
import { checkMessages, checkText, checkVariables } from "./messages.js";
import type { Fields } from "./records.js";
import type { ChatTemplate } from "./template.js";
import type { Tokenizer } from "./tokenizer.js";
import type { Message } from "./types.js";

/** A sliding conversation leaves 1/ANSWER_SHARE of the window free, or `max_tokens` if that is less. */
const ANSWER_SHARE = 4;

/** The turns and their encoding. Only `commit` adds a turn, so that a failed answer leaves no trace. */
export class Conversation {
  turns: Message[] = [];
  private preamble: Message[] = [];

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly template: ChatTemplate,
    private system: string,
  ) {
    this.reset();
  }

  /** Forget the turns. `system` replaces the system prompt, and an empty text removes it. */
  reset(system = this.system): void {
    this.system = checkText(system, "the system prompt");
    this.preamble = system ? [{ role: "system", content: system }] : [];
    this.turns = [];
  }

  /** The system prompt, the turns so far and `question` as the user's next turn. */
  withQuestion(question: string): Message[] {
    return [...this.preamble, ...this.turns, { role: "user", content: checkText(question, "the prompt") }];
  }

  /** A caller's messages as plain records. */
  check(messages: unknown): Message[] {
    return checkMessages(messages, this.template.words);
  }

  /**
   * Make `messages` and `answer` the conversation, including any system prompt that they begin with. The answer continues
   * a last message by the assistant.
   */
  commit(messages: readonly Message[], answer: string): void {
    const first = messages.findIndex((message) => !isSystem(message));
    const split = first < 0 ? messages.length : first;
    this.preamble = messages.slice(0, split);
    const last = messages.at(-1);
    const turns = messages.slice(split);
    if (last?.role === "assistant") this.turns = [...turns.slice(0, -1), extended(last, answer)];
    else this.turns = [...turns, { role: "assistant", content: answer }];
  }

  /** Encode the prompt, up to where the answer begins, or to the end of a last message by the assistant. */
  tokens(messages: readonly Message[], variables: Fields): number[] {
    this.template.checkHandled(messages, checkVariables(variables));
    const continueFinalMessage = messages.at(-1)?.role === "assistant";
    return this.tokenizer.encode(this.template.render(messages, variables, { continueFinalMessage }));
  }

  /**
   * Encode the prompt without the oldest turns, as many as have to go to leave room for an answer in `window` tokens.
   * System messages and the last question stay.
   */
  fitted(messages: readonly Message[], variables: Fields, window: number, maxTokens: number | null): number[] {
    const room = Math.min(maxTokens ?? window, Math.floor(window / ANSWER_SHARE));
    const first = messages.filter(isSystem);
    let rest = messages.filter((message) => !isSystem(message));
    for (;;) {
      const tokens = this.tokens([...first, ...rest], variables);
      const following = rest.findIndex((message, i) => i > 0 && message.role === "user");
      if (tokens.length <= window - room || (following < 0 && tokens.length <= window)) return tokens;
      if (following < 0) {
        const sizes = `${tokens.length} tokens, but the context window holds ${window}`;
        throw new ArgosyError(`the question and the system prompt have ${sizes}`, "shorten it");
      }
      rest = rest.slice(following);
    }
  }

  /** Count the leading tokens that come from the system prompt and from the template before the first question. */
  protected(messages: readonly Message[], tokens: readonly number[], variables: Fields): number {
    const other = this.tokens([...messages.filter(isSystem), { role: "user", content: "." }], variables);
    let common = 0;
    while (common < tokens.length && common < other.length && tokens[common] === other[common]) common++;
    return common;
  }
}

function isSystem(message: Message): boolean {
  return message.role === "system" || message.role === "developer";
}

/** A message with more text at its end. */
function extended(message: Message, text: string): Message {
  const { content } = message;
  if (!Array.isArray(content)) return { ...message, content: (content ?? "") + text };
  const last = content.at(-1);
  return { ...message, content: [...content.slice(0, -1), { type: "text", text: (last?.text ?? "") + text }] };
}
