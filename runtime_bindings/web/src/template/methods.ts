/** The operators of a template, and the methods that it may call on a value, with bounds on what they read and make. */
import { type Budget, isContainer, LimitExceeded } from "./budget.js";
import { braceFormat, type Lookup, percentFormat } from "./formats.js";
import {
  type Arguments,
  Callable,
  characters,
  type Dict,
  equal,
  isInteger,
  isNumber,
  keyOf,
  Lazy,
  lengthOf,
  numberOf,
  order,
  Real,

  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

export function arithmetic(budget: Budget, operator: string, left: Value, right: Value): Value {
  budget.spend(4);
  if (operator === "%" && typeof left === "string") return budget.admit(percentFormat(budget, left, right));
  if (left instanceof Undefined || right instanceof Undefined) throw new Error("it computes with an undefined value");
  if (isNumber(left) && isNumber(right)) return budget.admit(compute(operator, left, right));
  if (operator === "+") return added(budget, left, right);
  if (operator === "*" && isInteger(right)) return repeated(budget, left, Number(right));
  if (operator === "*" && isInteger(left)) return repeated(budget, right, Number(left));
  throw new Error(`the types ${typeName(left)} and ${typeName(right)} have no operator ${operator}`);
}

function compute(operator: string, left: number | boolean | Real, right: number | boolean | Real): Value {
  const [a, b] = [numberOf(left), numberOf(right)];
  const whole = isInteger(left) && isInteger(right);
  if (["/", "//", "%"].includes(operator) && b === 0) throw new Error("it divides by zero");
  if (operator === "/") return new Real(a / b);
  if (operator === "**" && a < 0 && !Number.isInteger(b)) throw new LimitExceeded("it makes a value of type complex");
  const result =
    operator === "+" ? a + b
    : operator === "-" ? a - b
    : operator === "*" ? a * b
    : operator === "//" ? Math.floor(a / b)
    : operator === "%" ? a - b * Math.floor(a / b)
    : a ** b;
  return whole && !(operator === "**" && b < 0) ? result + 0 : new Real(result);
}

function added(budget: Budget, left: Value, right: Value): Value {
  budget.checkSize(budget.size(left) + budget.size(right));
  if (typeof left === "string" && typeof right === "string") return budget.admit(left + right);
  if (Array.isArray(left) && Array.isArray(right) && left instanceof Tuple === right instanceof Tuple) {
    return budget.admit(left instanceof Tuple ? Tuple.make(...left, ...right) : [...left, ...right]);
  }
  throw new Error(`the types ${typeName(left)} and ${typeName(right)} have no operator +`);
}

function repeated(budget: Budget, value: Value, times: number): Value {
  if (typeof value !== "string" && !Array.isArray(value)) throw new Error(`a value of type ${typeName(value)} has no operator *`);
  budget.checkSize(budget.size(value) * times);
  if (typeof value === "string") return budget.admit(value.repeat(Math.max(0, times)));
  const items = value.length ? Array.from({ length: Math.max(0, times) }, () => [...value]).flat() : [];
  return budget.admit(value instanceof Tuple ? Tuple.make(...items) : items);
}

export function compared(budget: Budget, operator: string, left: Value, right: Value): boolean {
  budget.spend(2);
  if (typeof left === "string" && typeof right === "string") {
    budget.spendCharacters(operator === "==" || operator === "!=" ? Math.min(left.length, right.length) : right.length);
  } else if (operator === "in" || operator === "not in") {
    if (isContainer(left)) budget.spend(budget.size(left) + budget.size(right));
    else if (!(right instanceof Map)) budget.spend(Array.isArray(right) ? right.length : 1);
  } else if (isContainer(left) && isContainer(right)) {
    budget.spend(budget.size(left) + budget.size(right));
  }
  switch (operator) {
    case "==": return equal(left, right);
    case "!=": return !equal(left, right);
    case "<": return order(left, right) < 0;
    case "<=": return order(left, right) <= 0;
    case ">": return order(left, right) > 0;
    case ">=": return order(left, right) >= 0;
    case "in": return contains(right, left);
    default: return !contains(right, left);
  }
}

function contains(container: Value, value: Value): boolean {
  if (typeof container === "string" && typeof value === "string") return container.includes(value);
  if (container instanceof Map) return container.has(keyOf(value));
  if (Array.isArray(container)) return container.some((item) => equal(item, value));
  if (container instanceof Undefined) return false;
  if (container instanceof Lazy) return container.take().some((item) => equal(item, value));
  throw new Error(`a value of type ${typeName(container)} has no items`);
}

/** Names of attributes that Python's types have and templates may not use: reading one gives an undefined value. */
const HIDDEN = new Set(
  ("append clear extend insert pop remove reverse sort update setdefault popitem fromkeys encode translate maketrans " +
    "to_bytes from_bytes bit_length hex as_integer_ratio real imag conjugate numerator denominator").split(" "),
);

export function isHidden(name: string): boolean {
  return HIDDEN.has(name);
}

/** Return a method of a value, bound to it, or undefined. */
export function methodOf(budget: Budget, lookup: Lookup, value: Value, name: string): Callable | undefined {
  const bound = (call: (args: Value[], named: Arguments["named"]) => Value): Callable =>
    new Callable(({ positional, named }) => {
      for (const argument of [...positional, ...named.values()]) budget.size(argument);
      return budget.admit(call(positional, named));
    });
  if (typeof value === "string") {
    if (name === "format") return bound((positional, named) => braceFormat(budget, lookup, value, { positional, named }));
    if (name === "format_map") {
      return bound(([names]) => braceFormat(budget, lookup, value, { positional: [], named: names as Map<string, Value> }));
    }
    const method = Object.hasOwn(TEXT, name) ? TEXT[name] : undefined;
    return method && bound((args, named) => method(budget, value, withNames(name, args, named)));
  }
  const methods = value instanceof Map ? DICT : Array.isArray(value) ? (value instanceof Tuple ? TUPLE : LIST) : undefined;
  const method = value instanceof Real && name === "is_integer" ? () => Number.isInteger(value.value) : methods && Object.hasOwn(methods, name) ? methods[name] : undefined;
  return method && bound((args, named) => method(budget, value as never, withNames(name, args, named)));
}

/** Put the arguments that may be given by name into their places. */
function withNames(name: string, args: Value[], named: Arguments["named"]): Value[] {
  const names = { split: ["sep", "maxsplit"], rsplit: ["sep", "maxsplit"], splitlines: ["keepends"], expandtabs: ["tabsize"] }[name];
  const result = [...args];
  for (const [key, value] of named) {
    const place = names?.indexOf(key) ?? -1;
    if (place < 0) throw new Error(`${name} has no argument \`${key}\``);
    while (result.length < place) result.push(null);
    result[place] = value;
  }
  return result;
}

type Method<T> = (budget: Budget, value: T, args: Value[]) => Value;

const DICT: Record<string, Method<Dict>> = {
  get: (_, dict, [key = null, other = null]) => (dict.has(keyOf(key)) ? (dict.get(keyOf(key)) ?? null) : other),
  items: (budget, dict) => (budget.spend(dict.size), [...dict].map(([key, item]) => Tuple.make(key, item))),
  keys: (budget, dict) => (budget.spend(dict.size), [...dict.keys()]),
  values: (budget, dict) => (budget.spend(dict.size), [...dict.values()]),
  copy: (budget, dict) => (budget.size(dict), new Map(dict)),
};

const TUPLE: Record<string, Method<Value[]>> = {
  index: (budget, list, [item = null]) => {
    budget.size(list);
    const place = list.findIndex((other) => equal(item, other));
    if (place < 0) throw new Error("the list has no such item");
    return place;
  },
  count: (budget, list, [item = null]) => (budget.size(list), list.filter((other) => equal(item, other)).length),
};

const LIST: Record<string, Method<Value[]>> = { ...TUPLE, copy: (budget, list) => (budget.size(list), [...list]) };

export function stringOf(value: Value | undefined): string {
  if (typeof value !== "string") throw new Error(`it wants text, not a value of type ${typeName(value ?? null)}`);
  return value;
}

/** Python's white space. */
const SPACE = "\\s\\x1c-\\x1f\\x85";

export function strip(budget: Budget, text: string, chars: Value | undefined, left: boolean, right: boolean): string {
  budget.spendCharacters(text.length * Math.max(1, typeof chars === "string" ? chars.length : 1));
  const set = typeof chars === "string" ? new Set(characters(chars)) : null;
  const space = new RegExp(`[${SPACE}]`);
  const out = (character: string | undefined): boolean =>
    character !== undefined && (set ? set.has(character) : space.test(character) && character !== "\ufeff");
  const units = characters(text);
  let [start, end] = [0, units.length];
  while (left && start < end && out(units[start])) start++;
  while (right && end > start && out(units[end - 1])) end--;
  return units.slice(start, end).join("");
}

export function replaced(budget: Budget, text: string, old: string, fresh: string, count = -1): string {
  budget.spendCharacters(text.length, 8);
  const parts = old ? text.split(old) : ["", ...characters(text), ""];
  budget.checkSize(text.length + parts.length * fresh.length);
  if (count < 0 || count >= parts.length) return parts.join(fresh);
  const rest = parts.slice(count + 1).join(old);
  return [...parts.slice(0, count), parts[count] + (parts.length > count + 1 ? old + rest : "")].join(fresh);
}

function scan(cost: number, method: (text: string, args: Value[]) => Value): Method<string> {
  return (budget, text, args) => {
    budget.spendCharacters(text.length, cost);
    return method(text, args);
  };
}

function every(pattern: RegExp): Method<string> {
  return scan(4, (text) => pattern.test(text));
}

export function capitalize(text: string): string {
  const [first = "", ...rest] = characters(text);
  return (/\p{Lt}/u.test(first) ? first : first.toUpperCase()) + rest.join("").toLowerCase();
}

/** `str.title`: every run of letters begins with a capital. */
function title(text: string): string {
  return text.replace(/\p{L}+/gu, capitalize);
}

function affixed(at: "startsWith" | "endsWith"): Method<string> {
  return scan(1, (text, [affix = null, start = 0]) => {
    const part = typeof start === "number" && start ? characters(text).slice(start).join("") : text;
    return (Array.isArray(affix) ? affix : [affix]).some((one) => part[at](stringOf(one)));
  });
}

/** Return a place in characters, for one that JavaScript counts in UTF-16 units. */
function place(text: string, unit: number): number {
  return unit < 0 ? -1 : lengthOf(text.slice(0, unit));
}

function found(value: number): number {
  if (value < 0) throw new Error("the text has no such part");
  return value;
}

function product(budget: Budget, text: string, args: Value[]): void {
  budget.spendCharacters(text.length * Math.max(1, ...args.map((argument) => (typeof argument === "string" ? argument.length : 1))));
}

function wide(text: string, width: Value | undefined, pad: (missing: number) => [number, number], fill: Value = " "): Method<string> {
  return (budget) => {
    const missing = Number(width) - lengthOf(text);
    budget.checkSize(Math.max(text.length, Number(width)));
    if (!(missing > 0)) return text;
    const [before, after] = pad(missing);
    return stringOf(fill).repeat(before) + text + stringOf(fill).repeat(after);
  };
}

/** Python puts the odd space of `center` before text of an odd width. */
export function centre(width: number): (missing: number) => [number, number] {
  return (missing) => {
    const before = Math.floor(missing / 2) + (missing & width & 1);
    return [before, missing - before];
  };
}

export function center(budget: Budget, text: string, width: Value): string {
  return wide(text, width, centre(Number(width)))(budget, text, []) as string;
}

const TEXT: Record<string, Method<string>> = {
  upper: scan(8, (text) => text.toUpperCase()),
  lower: scan(8, (text) => text.toLowerCase()),
  casefold: scan(8, (text) => text.toLowerCase().replaceAll("ß", "ss")),
  swapcase: scan(8, (text) => text.replace(/\p{L}/gu, (c) => (c === c.toUpperCase() ? c.toLowerCase() : c.toUpperCase()))),
  capitalize: scan(8, capitalize),
  title: scan(16, title),
  isalpha: every(/^\p{L}+$/u),
  isdigit: every(/^\p{Nd}+$/u),
  isdecimal: every(/^\p{Nd}+$/u),
  isnumeric: every(/^\p{N}+$/u),
  isalnum: every(/^[\p{L}\p{N}]+$/u),
  isspace: every(new RegExp(`^[${SPACE}]+$`)),
  isascii: every(/^[\0-\x7f]*$/),
  isidentifier: every(/^[\p{L}_][\p{L}\p{N}_]*$/u),
  isprintable: every(/^[^\p{C}\p{Zl}\p{Zp}]*$/u),
  islower: scan(4, (text) => /\p{Ll}/u.test(text) && !/[\p{Lu}\p{Lt}]/u.test(text)),
  isupper: scan(4, (text) => /\p{Lu}/u.test(text) && !/[\p{Ll}\p{Lt}]/u.test(text)),
  istitle: scan(4, (text) => /\p{L}/u.test(text) && text === title(text)),
  startswith: affixed("startsWith"),
  endswith: affixed("endsWith"),
  find: scan(2, (text, [part]) => place(text, text.indexOf(stringOf(part)))),
  index: scan(2, (text, [part]) => found(place(text, text.indexOf(stringOf(part))))),
  count: scan(2, (text, [part]) => (stringOf(part) ? text.split(stringOf(part)).length - 1 : lengthOf(text) + 1)),
  rfind: (budget, text, args) => (product(budget, text, args), place(text, text.lastIndexOf(stringOf(args[0])))),
  rindex: (budget, text, args) => (product(budget, text, args), found(place(text, text.lastIndexOf(stringOf(args[0]))))),
  removeprefix: scan(1, (text, [part]) => (text.startsWith(stringOf(part)) ? text.slice(stringOf(part).length) : text)),
  removesuffix: scan(1, (text, [part]) =>
    stringOf(part) && text.endsWith(stringOf(part)) ? text.slice(0, -stringOf(part).length) : text,
  ),
  strip: (budget, text, [chars]) => strip(budget, text, chars, true, true),
  lstrip: (budget, text, [chars]) => strip(budget, text, chars, true, false),
  rstrip: (budget, text, [chars]) => strip(budget, text, chars, false, true),
  partition: scan(2, (text, [part]) => {
    const at = text.indexOf(separator(part));
    return at < 0 ? Tuple.make(text, "", "") : Tuple.make(text.slice(0, at), separator(part), text.slice(at + separator(part).length));
  }),
  rpartition: (budget, text, args) => {
    product(budget, text, args);
    const part = separator(args[0]);
    const at = text.lastIndexOf(part);
    return at < 0 ? Tuple.make("", "", text) : Tuple.make(text.slice(0, at), part, text.slice(at + part.length));
  },
  split: (budget, text, [part = null, most = -1]) => {
    budget.spendCharacters(text.length, 8);
    return split(text, part, Number(most));
  },
  rsplit: (budget, text, args) => {
    product(budget, text, args);
    const [part = null, most = -1] = args;
    if (Number(most) < 0) return split(text, part, -1);
    const reversed = (value: string): string => characters(value).reverse().join("");
    return split(reversed(text), typeof part === "string" ? reversed(part) : part, Number(most))
      .map((piece) => reversed(stringOf(piece)))
      .reverse();
  },
  splitlines: scan(8, (text, [keep = false]) => {
    const lines = text.split(/(?<=\r\n|\r(?!\n)|[\n\v\f\x1c-\x1e\x85\u2028\u2029])/);
    if (lines.at(-1) === "") lines.pop();
    return keep ? lines : lines.map((line) => line.replace(/(\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029])$/, ""));
  }),
  replace: (budget, text, [old, fresh, count = -1]) => replaced(budget, text, stringOf(old), stringOf(fresh), Number(count)),
  join: (budget, text, [items = null]) => budget.joined(budget.iterated(items).map(stringOf), text),
  center: (budget, text, [width = 0, fill = " "]) => wide(text, width, centre(Number(width)), fill)(budget, text, []),
  ljust: (budget, text, [width = 0, fill = " "]) => wide(text, width, (missing) => [0, missing], fill)(budget, text, []),
  rjust: (budget, text, [width = 0, fill = " "]) => wide(text, width, (missing) => [missing, 0], fill)(budget, text, []),
  zfill: (budget, text, [width = 0]) => {
    const sign = /^[+-]/.test(text) ? text.charAt(0) : "";
    const rest = text.slice(sign.length);
    return sign + (wide(rest, Number(width) - sign.length, (missing) => [missing, 0], "0")(budget, rest, []) as string);
  },
  expandtabs: (budget, text, [size = 8]) => {
    budget.checkSize(text.length + (text.split("\t").length - 1) * Number(size));
    let column = 0;
    const write = (character: string): string => {
      if (character === "\n" || character === "\r") column = -1;
      const width = character === "\t" ? (Number(size) > 0 ? Number(size) - (column % Number(size)) : 0) : 1;
      column += width;
      return character === "\t" ? " ".repeat(width) : character;
    };
    return characters(text).map(write).join("");
  },
};

function separator(part: Value | undefined): string {
  if (!stringOf(part)) throw new Error("its separator is empty");
  return stringOf(part);
}

function split(text: string, part: Value, most: number): Value[] {
  if (part !== null) {
    const pieces = text.split(separator(part));
    if (most < 0 || pieces.length <= most + 1) return pieces;
    return [...pieces.slice(0, most), pieces.slice(most).join(stringOf(part))];
  }
  const pieces: string[] = [];
  const pattern = new RegExp(`[^${SPACE}]+`, "g");
  for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
    if (most >= 0 && pieces.length >= most) {
      pieces.push(text.slice(match.index));
      break;
    }
    pieces.push(match[0]);
  }
  return pieces;
}

/** A slice of a text or list, as Python's `value[start:stop:step]`. */
export function part(budget: Budget, value: Value, start: Value, stop: Value, step: Value): Value {
  if (typeof value !== "string" && !Array.isArray(value)) throw new Error(`a value of type ${typeName(value)} has no slices`);
  for (const bound of [start, stop, step]) {
    if (bound !== null && !isInteger(bound)) throw new Error("the bounds of a slice are integers");
  }
  budget.spendCharacters(value.length, typeof value === "string" ? 1 : 8);
  const items = typeof value === "string" ? (lengthOf(value) === value.length ? value : characters(value)) : value;
  const by = step === null ? 1 : Number(step);
  if (by === 0) throw new Error("the step of a slice is zero");
  const clamp = (bound: Value, other: number): number => {
    if (bound === null) return other;
    const at = Number(bound) < 0 ? Number(bound) + items.length : Number(bound);
    return by > 0 ? Math.min(Math.max(at, 0), items.length) : Math.min(Math.max(at, -1), items.length - 1);
  };
  const [from, to] = by > 0 ? [clamp(start, 0), clamp(stop, items.length)] : [clamp(start, items.length - 1), clamp(stop, -1)];
  if (typeof items === "string" && by === 1) return budget.admit(items.slice(from, Math.max(from, to)));
  const picked: Value[] = [];
  for (let i = from; by > 0 ? i < to : i > to; i += by) picked.push(items[i] as Value);
  if (typeof value === "string") return budget.admit(picked.join(""));
  return budget.admit(value instanceof Tuple ? Tuple.make(...picked) : picked);
}

