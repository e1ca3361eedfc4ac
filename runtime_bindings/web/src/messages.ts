/** Check what callers give to a chat template: messages, and further variables. */
import { ArgosyError } from "./errors.js";
import { type Fields, isObject } from "./records.js";
import type { Message } from "./types.js";

/** Roles of OpenAI's API and of the templates in use; a template that names others accepts those as well. */
export const ROLES = ["system", "user", "assistant", "tool", "developer", "ipython", "function"];
/** Names that Jinja or the sandbox give a meaning, so that a value given for them would be lost or in the way. */
const RESERVED = new Set(
  ("messages add_generation_prompt continue_final_message self super caller loop varargs kwargs range dict namespace " +
    "cycler joiner lipsum raise_exception strftime_now true false none True False None and or not in is if else").split(" "),
);
const MAX_DEPTH = 64; // of lists and objects in a message or variable

/** Check messages and copy them as plain records, without those of their keys that are null. */
export function checkMessages(messages: unknown, words: ReadonlySet<string> = new Set()): Message[] {
  if (!Array.isArray(messages) || !messages.length) {
    throw new ArgosyError(`a conversation must be a list of messages, not \`${shown(messages)}\``);
  }
  return messages.map((message: unknown) => {
    if (!isObject(message)) throw new ArgosyError(`a message needs a text as \`content\`: \`${shown(message)}\``);
    const { role, content } = message;
    if (typeof role !== "string" || !(ROLES.includes(role) || words.has(role))) {
      throw new ArgosyError(`\`${shown(role)}\` is not a role, it must be one of ${ROLES.join(", ")}`);
    }
    const called = role === "assistant" && Array.isArray(message["tool_calls"]) && message["tool_calls"].length > 0;
    if (content === undefined || content === null ? !called : !isText(content)) {
      throw new ArgosyError(`a message needs a text as \`content\`: \`${shown(message)}\``);
    }
    const kept = Object.entries(message).filter(([, value]) => value !== null && value !== undefined);
    return plain(Object.fromEntries(kept), "a message") as Message;
  });
}

function isText(content: unknown): boolean {
  if (typeof content === "string") return true;
  if (!Array.isArray(content)) return false;
  return content.every((part: unknown) => isObject(part) && (part["type"] ?? "text") === "text" && typeof part["text"] === "string");
}

/** Return a text. Throws if it holds half of a surrogate pair, which no encoding of text can express. */
export function checkText(text: string, name: string): string {
  const half = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.exec(text);
  if (!half) return text;
  const code = half[0].charCodeAt(0).toString(16).toUpperCase();
  throw new ArgosyError(`${name} has \`U+${code}\` at character ${half.index}, half of a surrogate pair`, "replace or remove it");
}

/** Check variables for a chat template, and copy them as plain values. */
export function checkVariables(variables: Fields): Fields {
  if (!isObject(variables)) throw new ArgosyError(`template variables are an object, not \`${shown(variables)}\``);
  for (const name of Object.keys(variables)) {
    if (!/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name)) throw new ArgosyError(`\`${shown(name)}\` is not a name for a template variable`);
    if (RESERVED.has(name) || name.startsWith("__")) {
      throw new ArgosyError(`the template variable \`${name}\` has a meaning already`, "use another name");
    }
  }
  const named = Object.entries(variables).filter(([, value]) => value !== undefined);
  return Object.fromEntries(named.map(([name, value]) => [name, plain(value, `the template variable \`${name}\``)]));
}

/** Copy a value as one that JSON can hold. */
function plain(value: unknown, name: string, depth = 0): unknown {
  if (value === null || value === undefined || typeof value === "boolean") return value ?? null;
  if (typeof value === "string") return checkText(value, name);
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new ArgosyError(`${name} has the number \`${value}\`, which JSON cannot express`);
    return value;
  }
  if (depth === MAX_DEPTH) throw new ArgosyError(`${name} has more than ${MAX_DEPTH} lists and objects in each other`);
  if (Array.isArray(value)) return value.map((item) => plain(item, name, depth + 1));
  const prototype: unknown = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (prototype !== Object.prototype && prototype !== null) {
    throw new ArgosyError(`${name} has a value of type \`${typeof value}\``, "give text, numbers, lists and objects");
  }
  return Object.fromEntries(
    Object.entries(value as Fields).map(([key, item]) => [checkText(key, name), plain(item, name, depth + 1)]),
  );
}

function shown(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 60);
}
