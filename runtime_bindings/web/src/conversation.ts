/** Turns of a conversation go in; the token ids of the prompt that asks for the next answer come out. */
import { ArgosyError } from "./errors.js";
import type { Fields } from "./records.js";
import type { ChatTemplate } from "./template.js";
import type { Tokenizer } from "./tokenizer.js";
import type { Message } from "./types.js";

/** Part of the window that a sliding conversation leaves free for the answer, unless less is asked for. */
const ANSWER_SHARE = 4;

/** Turns, and how they become tokens. Only `commit` adds a turn, so that a failed answer leaves no trace. */
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

  /** Forgets the turns. `system`: a new system prompt; without it the last one set comes back, an empty text is none. */
  reset(system = this.system): void {
    this.system = system;
    this.preamble = system ? [{ role: "system", content: system }] : [];
    this.turns = [];
  }

  /** What to ask next: the system prompt, the turns so far and a new one of the user. */
  withQuestion(question: string): Message[] {
    return [...this.preamble, ...this.turns, { role: "user", content: question }];
  }

  /** Takes `messages` and their answer as the conversation so far, with the system prompt that they begin with. */
  commit(messages: readonly Message[], answer: string): void {
    const first = messages.findIndex((each) => !isSystem(each));
    const split = first < 0 ? messages.length : first;
    this.preamble = messages.slice(0, split);
    this.turns = [...messages.slice(split), { role: "assistant", content: answer }];
  }

  /** The prompt up to where the answer begins. */
  tokens(messages: readonly Message[], variables: Fields): number[] {
    return this.tokenizer.encode(this.template.render(messages, variables));
  }

  /**
   * `tokens`, without as many of the oldest turns as it takes to leave room for an answer in `window` tokens. System
   * messages and the last question stay.
   */
  fitted(messages: readonly Message[], variables: Fields, window: number, maxTokens: number | null): number[] {
    const room = Math.min(maxTokens ?? window, Math.floor(window / ANSWER_SHARE));
    const first = messages.filter(isSystem);
    let rest = messages.filter((each) => !isSystem(each));
    for (;;) {
      const tokens = this.tokens([...first, ...rest], variables);
      const following = rest.findIndex((each, i) => i > 0 && each.role === "user");
      if (tokens.length <= window - room || (following < 0 && tokens.length <= window)) return tokens;
      if (following < 0) {
        const sizes = `${tokens.length} tokens, and the context window holds ${window}`;
        throw new ArgosyError(`the question with the system prompt has ${sizes}`, "shorten it");
      }
      rest = rest.slice(following);
    }
  }

  /** How many of the first tokens are the system prompt and what the template puts before the first question. */
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
