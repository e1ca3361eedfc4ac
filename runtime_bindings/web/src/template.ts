/** Render a conversation with the model's own chat template. */
import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { ArgosyError, oneLine } from "./errors.js";
import { type Fields, isObject } from "./records.js";
import type { Message } from "./types.js";

export const ROLES = ["system", "user", "assistant", "tool", "developer"];
const MAX_TEMPLATE_CHARACTERS = 1 << 20;
const MAX_VALUE = 4 << 20; // characters of a text, or items of a list
const MAX_STEPS = 1_000_000;
const MAX_MILLISECONDS = 5000;
const UNTRUSTED = "get the model from a source you trust";

/** Thrown by the template's `raise_exception`: the model was not trained on such a conversation. */
class Refusal extends Error {}

/** The template exceeds its limits on time or memory. */
class LimitExceeded extends Error {}

type Value = ReturnType<Interpreter["evaluate"]>;

/** Counts a template's steps and checks the size of the values it creates. */
class LimitedInterpreter extends Interpreter {
  private steps = 0;
  private readonly deadline = performance.now() + MAX_MILLISECONDS;

  override evaluate(...step: Parameters<Interpreter["evaluate"]>): Value {
    if (++this.steps > MAX_STEPS || performance.now() > this.deadline) throw new LimitExceeded("it runs for too long");
    const value = super.evaluate(...step);
    const held: unknown = value.value;
    if (typeof held !== "string" && !Array.isArray(held)) return value;
    if (held.length > MAX_VALUE) throw new LimitExceeded("it builds a value that is too large");
    this.steps += Array.isArray(held) ? held.length : held.length >> 6; // as much as a loop over it would do
    return value;
  }
}

/** A model's Jinja template, with the special tokens that it may use. */
export class ChatTemplate {
  private readonly program: ReturnType<typeof parse>;

  constructor(
    source: string,
    private readonly specialTokens: Readonly<Record<string, string>> = {},
  ) {
    if (source.length > MAX_TEMPLATE_CHARACTERS) {
      const message = `the model's chat template has ${source.length} characters, far more than any chat template`;
      throw new ArgosyError(message, UNTRUSTED);
    }
    try {
      this.program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    } catch (error) {
      throw broken(error);
    }
  }

  /** Render a conversation up to where the assistant's answer begins; `more` are further variables. */
  render(messages: readonly Message[], more: Fields = {}): string {
    const environment = new Environment();
    const variables = { ...GLOBALS, ...this.specialTokens, ...more, messages, add_generation_prompt: true };
    try {
      for (const [name, value] of Object.entries(variables)) environment.set(name, value);
      return String(new LimitedInterpreter(environment).run(this.program).value);
    } catch (error) {
      if (error instanceof Refusal) {
        throw new ArgosyError(`the model's chat template refuses this conversation: \`${oneLine(error)}\``);
      }
      if (error instanceof LimitExceeded || error instanceof RangeError) {
        throw new ArgosyError(`the model's chat template does something forbidden: \`${oneLine(error)}\``, UNTRUSTED);
      }
      throw broken(error);
    }
  }
}

const GLOBALS: Fields = {
  true: true,
  false: false,
  none: null,
  True: true,
  False: false,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new Refusal(String(message));
  },
  range,
  strftime_now: strftimeNow,
};

/** Python's `range`, of at most 100,000 numbers. */
function range(first: number, end?: number, step = 1): number[] {
  const [from, to] = end === undefined ? [0, first] : [first, end];
  const count = step ? Math.max(0, Math.ceil((to - from) / step)) : NaN;
  if (!(count <= 100_000)) throw new LimitExceeded("its `range` is too long");
  return Array.from({ length: count }, (_, i) => from + i * step);
}

/** Format the present local time with the `strftime` directives that templates use. */
function strftimeNow(format: string): string {
  const now = new Date();
  const two = (value: number): string => String(value).padStart(2, "0");
  const word = (options: Intl.DateTimeFormatOptions): string => now.toLocaleDateString("en-US", options);
  const parts: Record<string, () => string> = {
    Y: () => String(now.getFullYear()),
    y: () => two(now.getFullYear() % 100),
    m: () => two(now.getMonth() + 1),
    B: () => word({ month: "long" }),
    b: () => word({ month: "short" }),
    d: () => two(now.getDate()),
    A: () => word({ weekday: "long" }),
    a: () => word({ weekday: "short" }),
    H: () => two(now.getHours()),
    I: () => two(now.getHours() % 12 || 12),
    p: () => (now.getHours() < 12 ? "AM" : "PM"),
    M: () => two(now.getMinutes()),
    S: () => two(now.getSeconds()),
    "%": () => "%",
  };
  return format.replace(/%(.)/g, (whole, directive: string) => parts[directive]?.() ?? whole);
}

/** Check messages and copy them as plain records. */
export function checkMessages(messages: unknown): Message[] {
  if (!Array.isArray(messages) || !messages.length) {
    throw new ArgosyError(`a conversation must be a list of messages, not \`${shown(messages)}\``);
  }
  return messages.map((message: unknown) => {
    if (!isObject(message) || typeof message["content"] !== "string") {
      throw new ArgosyError(`a message needs a text as \`content\`: \`${shown(message)}\``);
    }
    if (typeof message["role"] !== "string" || !ROLES.includes(message["role"])) {
      throw new ArgosyError(`\`${shown(message["role"])}\` is not a role, it must be one of ${ROLES.join(", ")}`);
    }
    return { ...message } as unknown as Message;
  });
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

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 60);
}

function broken(error: unknown): ArgosyError {
  return new ArgosyError(`the model's chat template cannot be used: \`${oneLine(error)}\``, "use another model");
}
