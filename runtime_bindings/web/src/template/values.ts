/** The values of a template, with the text, truth, order and equality that they have in Python. */

/** A number that Python calls a float: `2.0` and not `2`. */
export class Real {
  constructor(readonly value: number) {}
}

/** A missing variable or attribute. */
export class Undefined {
  constructor(readonly name: string) {}
}

/** A list that cannot change: it is written in parentheses. */
export class Tuple extends Array<Value> {
  static make(...items: Value[]): Tuple {
    const tuple = new Tuple();
    for (const item of items) tuple.push(item);
    return tuple;
  }
}

/** A group of the filter `groupby`, whose parts have names. */
export class Group extends Tuple {}

/** The items of a filter that Python computes one by one: they can be read once, and have no length. */
export class Lazy {
  constructor(
    private items: Value[],
    readonly depth: number,
  ) {}

  take(): Value[] {
    const items = this.items;
    this.items = [];
    return items;
  }
}

export class Namespace {
  constructor(readonly attributes: Map<string, Value>) {}
}

export interface Arguments {
  positional: Value[];
  named: Map<string, Value>;
}

/** A function, method or macro. */
export class Callable {
  constructor(readonly call: (args: Arguments) => Value) {}
}

/** An object of the runtime, such as `loop`, with the attributes that a template may read. */
export class Fields {
  constructor(readonly get: (name: string) => Value | undefined) {}
}

export type Dict = Map<Value, Value>;
export type Value =
  | string
  | number
  | boolean
  | null
  | Real
  | Undefined
  | Value[]
  | Dict
  | Lazy
  | Namespace
  | Callable
  | Fields;

/** Convert a plain value of a caller. Numbers without a fraction are integers. */
export function fromPlain(value: unknown): Value {
  if (value === undefined) return null;
  if (value === null || typeof value === "string" || typeof value === "boolean") return value;
  if (typeof value === "number") return Number.isInteger(value) ? value : new Real(value);
  if (Array.isArray(value)) return value.map(fromPlain);
  return new Map(Object.entries(value as object).map(([key, item]) => [key, fromPlain(item)]));
}

/** Return a value that was looked up, or an undefined one where there is none. */
export function present(value: Value | undefined, name: string): Value {
  return value === undefined ? new Undefined(name) : value;
}

export function typeName(value: Value): string {
  if (value === null) return "none";
  if (typeof value === "object") return value instanceof Map ? "dict" : value.constructor.name.toLowerCase();
  return typeof value;
}

export function isNumber(value: Value): value is number | boolean | Real {
  return typeof value === "number" || typeof value === "boolean" || value instanceof Real;
}

export function isInteger(value: Value): value is number | boolean {
  return typeof value === "number" || typeof value === "boolean";
}

export function numberOf(value: number | boolean | Real): number {
  return value instanceof Real ? value.value : Number(value);
}

export function truthy(value: Value): boolean {
  if (value === null || value instanceof Undefined) return false;
  if (value instanceof Real) return value.value !== 0;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map) return value.size > 0;
  return typeof value === "object" ? true : Boolean(value);
}

/** The characters of a text, as Python counts them. */
export function characters(text: string): string[] {
  return Array.from(text);
}

export const ASTRAL = /[\ud800-\udfff]/;

export function lengthOf(text: string): number {
  return ASTRAL.test(text) ? characters(text).length : text.length;
}

/** Write a value as Python's `str` does. */
export function textOf(value: Value): string {
  if (typeof value === "string") return value;
  if (value instanceof Undefined) return "";
  return reprOf(value);
}

/** Write a value as Python's `repr` does. */
export function reprOf(value: Value): string {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return quoted(value);
  if (value instanceof Real) return realText(value.value);
  if (value instanceof Tuple) return `(${value.map(reprOf).join(", ")}${value.length === 1 ? "," : ""})`;
  if (Array.isArray(value)) return `[${value.map(reprOf).join(", ")}]`;
  if (value instanceof Map) return `{${[...value].map(([key, item]) => `${reprOf(key)}: ${reprOf(item)}`).join(", ")}}`;
  return value instanceof Undefined ? "Undefined" : `<${typeName(value)}>`;
}

/** Characters that `repr` escapes, but for quotes and backslashes. */
const UNPRINTABLE = /[^\P{C}]|[^\P{Z} ]/gu;

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const body = text.replaceAll("\\", "\\\\").replaceAll(quote, `\\${quote}`);
  return quote + (/^[ -~]*$/.test(body) ? body : body.replace(UNPRINTABLE, escapeCharacter)) + quote;
}

function escapeCharacter(character: string): string {
  const known = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[character];
  if (known !== undefined) return known;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
  return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
}

export function realText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [digits, exponent = ""] = value.toExponential().split("e");
    return `${digits}e${exponent[0]}${exponent.slice(1).padStart(2, "0")}`;
  }
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}

export function equal(one: Value, other: Value): boolean {
  if (isNumber(one) && isNumber(other)) return numberOf(one) === numberOf(other);
  if (one instanceof Undefined && other instanceof Undefined) return true;
  if (Array.isArray(one) && Array.isArray(other)) {
    if (one instanceof Tuple !== other instanceof Tuple || one.length !== other.length) return false;
    return one.every((item, i) => equal(item, other[i] ?? null));
  }
  if (one instanceof Map && other instanceof Map) {
    return one.size === other.size && [...one].every(([key, item]) => other.has(key) && equal(item, other.get(key) ?? null));
  }
  return one === other;
}

/** Return a negative number, zero or a positive one. Raises for values without an order. */
export function order(one: Value, other: Value): number {
  if (isNumber(one) && isNumber(other)) return numberOf(one) - numberOf(other);
  if (typeof one === "string" && typeof other === "string") {
    if (one === other) return 0;
    return !ASTRAL.test(one) && !ASTRAL.test(other) ? (one < other ? -1 : 1) : orderOfCharacters(one, other);
  }
  if (Array.isArray(one) && Array.isArray(other) && one instanceof Tuple === other instanceof Tuple) {
    for (let i = 0; i < Math.min(one.length, other.length); i++) {
      const [left, right] = [one[i] as Value, other[i] as Value];
      if (!equal(left, right)) return order(left, right);
    }
    return one.length - other.length;
  }
  throw new Error(`values of the types ${typeName(one)} and ${typeName(other)} have no order`);
}

function orderOfCharacters(one: string, other: string): number {
  const [left, right] = [characters(one), characters(other)];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0);
    if (difference) return difference;
  }
  return left.length - right.length;
}

/** A key of a dictionary: numbers that are equal are one key, as in Python. */
export function keyOf(value: Value): Value {
  if (value instanceof Real) return value.value;
  if (typeof value === "boolean") return Number(value);
  if (value === null || typeof value === "string" || typeof value === "number") return value;
  throw new Error(`a value of type ${typeName(value)} cannot be a key`);
}
