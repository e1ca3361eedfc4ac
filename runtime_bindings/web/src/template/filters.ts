/** Jinja's filters, with bounds on what they read and make. */
import { type Budget, characterAt, checkWritable, isContainer, LimitExceeded } from "./budget.js";
import { jsonOf, type Lookup, percentFormat } from "./formats.js";
import { CALL, ITEM, LIMITS } from "./limits.js";
import { arithmetic, capitalize, center, replaced, stringOf, strip } from "./methods.js";
import { applyTest } from "./tests.js";
import {
  type Arguments,
  characters,
  equal,
  Group,
  isInteger,
  isNumber,
  Lazy,
  lengthOf,
  numberOf,
  order,
  present,
  Real,
  reprOf,
  textOf,
  truthy,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

export interface Sandbox extends Lookup {
  readonly budget: Budget;
}

type Filter = (sandbox: Sandbox, value: Value, args: Value[], named: Map<string, Value>) => Value;

/** Return `value | name(args)`. */
export function applyFilter(sandbox: Sandbox, name: string, value: Value, args: Arguments): Value {
  const { budget } = sandbox;
  const filter = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined;
  if (!filter) throw new Error(`there is no filter named \`${name}\``);
  budget.spend(CALL);
  for (const argument of [...args.positional, ...args.named.values()]) budget.spendCharacters(budget.weigh(argument), 8);
  const positional = [...args.positional];
  const named = new Map(args.named);
  for (const [place, key] of (PARAMETERS[name] ?? []).entries()) {
    const given = named.get(key);
    if (given === undefined) continue;
    while (positional.length < place) positional.push(undefined as unknown as Value);
    positional[place] = given;
    named.delete(key);
  }
  if (named.size && !OPEN.has(name)) throw new Error(`the filter ${name} has no argument \`${[...named.keys()].join(", ")}\``);
  return budget.admit(filter(sandbox, value, positional, named));
}

export function isFilter(name: string): boolean {
  return Object.hasOwn(FILTERS, name);
}

const OPEN = new Set(["map", "format"]);
const PARAMETERS: Record<string, string[]> = {
  batch: ["linecount", "fill_with"],
  center: ["width"],
  d: ["default_value", "boolean"],
  default: ["default_value", "boolean"],
  dictsort: ["case_sensitive", "by", "reverse"],
  filesizeformat: ["binary"],
  float: ["default"],
  groupby: ["attribute", "default", "case_sensitive"],
  indent: ["width", "first", "blank"],
  int: ["default", "base"],
  join: ["d", "attribute"],
  max: ["case_sensitive", "attribute"],
  min: ["case_sensitive", "attribute"],
  replace: ["old", "new", "count"],
  round: ["precision", "method"],
  slice: ["slices", "fill_with"],
  sort: ["reverse", "case_sensitive", "attribute"],
  sum: ["attribute", "start"],
  tojson: ["ensure_ascii", "indent", "separators", "sort_keys"],
  trim: ["chars"],
  truncate: ["length", "killwords", "end", "leeway"],
  unique: ["case_sensitive", "attribute"],
  wordwrap: ["width", "break_long_words", "wrapstring", "break_on_hyphens"],
  xmlattr: ["autospace"],
};

/** Return a value as text, charged by `cost` for each character. */
function text(sandbox: Sandbox, value: Value, cost = 8): string {
  checkWritable(value);
  sandbox.budget.spendCharacters(sandbox.budget.weigh(value), cost);
  return textOf(value);
}

function onText(cost: number, write: (text: string, args: Value[]) => Value): Filter {
  return (sandbox, value, args) => write(text(sandbox, value, cost), args);
}

function lazy(value: Value, items: Value[]): Lazy {
  const depth = (value instanceof Lazy ? value.depth : 0) + 1;
  if (depth > LIMITS.lazy) throw new LimitExceeded("it nests filters too deep");
  return new Lazy(items, depth);
}

/** Return the items of a value, none for what is false, such as None. */
function read({ budget }: Sandbox, value: Value): Value[] {
  return truthy(value) ? budget.iterated(value) : [];
}

/** Return what an attribute such as `a.b.0` reads of an item. */
function getter(sandbox: Sandbox, attribute: Value | undefined, other?: Value): (item: Value) => Value {
  if (attribute === undefined || attribute === null) return (item) => item;
  const path = isInteger(attribute) ? [Number(attribute)] : textOf(attribute).split(".").map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  return (item) => {
    let value = item;
    for (const key of path) value = sandbox.item(value, key);
    return value instanceof Undefined && other !== undefined ? other : value;
  };
}

/** Return a comparison of items by what `get` reads of them, texts without regard to case unless it matters. */
function ordered(get: (item: Value) => Value, cased: Value | undefined): (one: Value, other: Value) => number {
  const key = (item: Value): Value => folded(get(item), cased);
  return (one, other) => order(key(one), key(other));
}

function folded(value: Value, cased: Value | undefined): Value {
  return typeof value === "string" && !truthy(cased ?? false) ? value.toLowerCase() : value;
}

/** Return the items of a value that is about to be sorted or compared. */
function sortable(sandbox: Sandbox, value: Value): Value[] {
  const { budget } = sandbox;
  const items = [...budget.iterated(value)];
  budget.spend(items.length * 4);
  budget.spendCharacters(budget.weigh(items), Math.max(1, Math.ceil(Math.log2(items.length + 1))));
  return items;
}

function extreme(sign: number): Filter {
  return (sandbox, value, [cased, attribute]) => {
    const items = sortable(sandbox, value);
    const compare = ordered(getter(sandbox, attribute), cased);
    if (!items.length) return new Undefined("an item of an empty sequence");
    return items.reduce((best, item) => (sign * compare(item, best) > 0 ? item : best));
  };
}

/** Return the filters `select`, `reject` and their forms for attributes. */
function chosen(keep: boolean, byAttribute: boolean): Filter {
  return (sandbox, value, args) => {
    const get = byAttribute ? getter(sandbox, args[0]) : (item: Value): Value => item;
    const [name, ...rest] = byAttribute ? args.slice(1) : args;
    const holds = (item: Value): boolean => {
      sandbox.budget.spend(2);
      return name === undefined ? truthy(get(item)) : applyTest(sandbox.budget, textOf(name), get(item), rest);
    };
    return lazy(value, read(sandbox, value).filter((item) => holds(item) === keep));
  };
}

function rounded(value: number, precision: number, method: string): number {
  const scale = 10 ** precision;
  if (method === "ceil") return Math.ceil(value * scale) / scale;
  if (method === "floor") return Math.floor(value * scale) / scale;
  if (precision > 15) return value;
  const scaled = Number(`${value}e${precision}`);
  const whole = Number.isNaN(scaled) ? value * scale : scaled;
  const half = Math.abs(whole % 1) === 0.5 ? 2 * Math.round(whole / 2) : Math.round(whole);
  return precision >= 0 ? Number(`${half}e-${precision}`) : half * 10 ** -precision;
}

const HTML: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&#34;", "'": "&#39;" };

function escaped(source: string): string {
  return source.replace(/[&<>"']/g, (character) => HTML[character] ?? character);
}

function quotedUrl(source: string, safe: RegExp): string {
  return source.replace(safe, (character) => encodeURIComponent(character).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`));
}

function wrapped(line: string, width: number, breakLong: boolean): string[] {
  const lines: string[] = [];
  let current = "";
  for (const chunk of line.split(/(\s+)/).filter(Boolean)) {
    let rest = chunk;
    if (current === "" && lines.length && !rest.trim()) continue;
    if (current.length + rest.length <= width) {
      current += rest;
      continue;
    }
    if (rest.length > width && breakLong) {
      for (let space = width - current.length; rest.length > width || current.length + rest.length > width; space = width) {
        current += rest.slice(0, space);
        rest = rest.slice(space);
        lines.push(current.trimEnd());
        current = "";
      }
    } else if (current.trim()) {
      lines.push(current.trimEnd());
    }
    current = rest.trim() ? rest : "";
  }
  if (current.trim() || !lines.length) lines.push(current.trimEnd());
  return lines;
}

const first: Filter = (sandbox, value) => {
  const items = value instanceof Lazy ? sandbox.budget.iterated(value) : isContainer(value) && !Array.isArray(value) ? [...value.keys()] : value;
  if (isNumber(items) || items === null) throw new Error(`a value of type ${typeName(items)} has no items`);
  const item = typeof items === "string" ? characterAt(sandbox.budget, items, 0) : Array.isArray(items) ? items[0] : undefined;
  return present(item, "the first item of an empty sequence");
};

const last: Filter = (sandbox, value) => {
  if (value instanceof Lazy) throw new Error("the items of a filter have no last one");
  const items = sandbox.budget.iterated(value);
  return present(items.at(-1), "the last item of an empty sequence");
};

const length: Filter = ({ budget }, value) => {
  if (typeof value === "string") {
    budget.spendCharacters(value.length); // which JavaScript has to count
    return lengthOf(value);
  }
  if (Array.isArray(value)) return value.length;
  if (value instanceof Map) return value.size;
  if (value instanceof Undefined) return 0;
  throw new Error(`a value of type ${typeName(value)} has no length`);
};

const fallback: Filter = (_, value, [other = "", boolean = false]) =>
  value instanceof Undefined || (truthy(boolean) && !truthy(value)) ? other : value;

const toInteger: Filter = ({ budget }, value, [other = 0, base = 10]) => {
  if (isNumber(value)) {
    const number = Math.trunc(numberOf(value));
    return Number.isFinite(number) ? number + 0 : other;
  }
  if (typeof value !== "string") return other;
  budget.spendCharacters(value.length, 8);
  if (value.length > LIMITS.formatWidth && base !== 10) throw new LimitExceeded("it reads a number of too many digits");
  const source = value.trim().replace(/(?<=[0-9a-z])_(?=[0-9a-z])/gi, "").toLowerCase();
  const [, sign = "", prefix = "", body = ""] = /^([+-]?)(0[xob])?([0-9a-z]+)$/.exec(source) ?? [];
  const named = { "0x": 16, "0o": 8, "0b": 2 }[prefix] ?? 10;
  const radix = base === 0 || base === named ? named : Number(base);
  const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz".slice(0, radix);
  const whole = radix === named || !prefix ? body : prefix + body;
  if (body && [...whole].every((digit) => alphabet.includes(digit))) {
    const number = parseInt(whole, radix);
    if (!(number <= LIMITS.integer)) throw new LimitExceeded("it computes an integer that is too large");
    return sign === "-" ? -number + 0 : number;
  }
  const number = toReal(source);
  return number === null || !Number.isFinite(number) ? other : Math.trunc(number) + 0;
};

function toReal(source: string): number | null {
  if (/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(source)) return Number(source);
  if (/^[+-]?inf(inity)?$/.test(source)) return source.startsWith("-") ? -Infinity : Infinity;
  return source === "nan" ? NaN : null;
}

const indent: Filter = (sandbox, value, [width = 4, atFirst = false, blank = false]) => {
  const { budget } = sandbox;
  const source = stringOf(value);
  budget.spendCharacters(source.length, 8);
  const lines = `${source}\n`.split(/\r\n|[\r\n]/);
  lines.pop();
  const size = typeof width === "string" ? width.length : Number(width);
  budget.checkSize(source.length + (lines.length + 1) * (size + 1));
  const space = typeof width === "string" ? width : " ".repeat(size);
  const indented = lines.map((line, i) => (i === 0 || (!truthy(blank) && line === "") ? line : space + line));
  return (truthy(atFirst) ? space : "") + indented.join("\n");
};

const tojson: Filter = ({ budget }, value, [ascii = false, step = null, separators = null, sorted = false]) => {
  if (typeof step === "string" ? step.length > ITEM : step !== null && !(Number(step) >= 0 && Number(step) <= ITEM)) {
    throw new LimitExceeded(`it indents JSON by more than ${ITEM}`);
  }
  const pair = Array.isArray(separators) ? separators.map(textOf) : [step === null ? ", " : ",", ": "];
  const space = step === null ? null : typeof step === "string" ? step : " ".repeat(Number(step));
  return jsonOf(budget, value, {
    ascii: truthy(ascii),
    indent: space,
    separators: [pair[0] ?? "", pair[1] ?? ""],
    sorted: truthy(sorted),
  });
};

const FILTERS: Record<string, Filter> = {
  abs: (_, value) => {
    if (!isNumber(value)) throw new Error(`a value of type ${typeName(value)} has no absolute value`);
    return value instanceof Real ? new Real(Math.abs(value.value)) : Math.abs(Number(value));
  },
  attr: (sandbox, value, [name = ""]) => sandbox.attribute(value, textOf(name)),
  batch: ({ budget }, value, [size = 1, fill = null]) => {
    const items = budget.iterated(value);
    const count = Math.max(1, Number(size));
    if (fill !== null) budget.spend(count);
    const rows: Value[][] = [];
    for (let i = 0; i < items.length; i += count) rows.push(items.slice(i, i + count));
    const row = rows.at(-1);
    while (fill !== null && row && row.length < count) row.push(fill);
    return lazy(value, rows);
  },
  capitalize: onText(8, capitalize),
  center: (sandbox, value, [width = 80]) => center(sandbox.budget, text(sandbox, value, 1), width),
  count: length,
  d: fallback,
  default: fallback,
  dictsort: (sandbox, value, [cased, by = "key", reverse = false]) => {
    if (!(value instanceof Map)) throw new Error("only dictionaries are sorted by `dictsort`");
    const items = sortable(sandbox, [...value].map(([key, item]) => Tuple.make(key, item)));
    items.sort(ordered((item) => (item as Tuple)[by === "value" ? 1 : 0] ?? null, cased));
    return truthy(reverse) ? items.reverse() : items;
  },
  e: onText(8, escaped),
  escape: onText(8, escaped),
  forceescape: onText(8, escaped),
  filesizeformat: (_, value, [binary = false]) => {
    const bytes = isNumber(value) ? numberOf(value) : typeof value === "string" && value.trim() ? Number(value) : NaN;
    if (Number.isNaN(bytes)) throw new Error("it has no size");
    const base = truthy(binary) ? 1024 : 1000;
    const units = "kMGTPEZY".split("").map((unit) => (truthy(binary) ? `${unit.toUpperCase()}iB` : `${unit}B`));
    if (bytes === 1) return "1 Byte";
    if (bytes < base) return `${Math.trunc(bytes)} Bytes`;
    const power = Math.min(units.length, Math.floor(Math.log(bytes) / Math.log(base)));
    return `${(bytes / base ** power).toFixed(1)} ${units[power - 1]}`;
  },
  first,
  float: ({ budget }, value, [other = new Real(0)]) => {
    if (isNumber(value)) return new Real(numberOf(value));
    if (typeof value !== "string") return other;
    budget.spendCharacters(value.length, 8);
    const number = toReal(value.trim().toLowerCase());
    return number === null ? other : new Real(number);
  },
  format: (sandbox, value, args, named) => {
    if (args.length && named.size) throw new Error("`format` takes either positional or named arguments");
    return percentFormat(sandbox.budget, text(sandbox, value, 1), named.size ? named : Tuple.make(...args));
  },
  groupby: (sandbox, value, [attribute, other, cased = true]) => {
    const get = getter(sandbox, attribute, other);
    const plain = PARAMETERS["groupby"] && truthy(cased) && cased !== true ? cased : false;
    const items = sortable(sandbox, value).sort(ordered(get, plain));
    const groups: Group[] = [];
    for (const item of items) {
      const group = groups.at(-1);
      const key = get(item);
      if (group && equal(folded(group[0] ?? null, plain), folded(key, plain))) (group[1] as Value[]).push(item);
      else groups.push(Object.assign(new Group(), [key, [item]]));
    }
    return groups;
  },
  indent,
  int: toInteger,
  items: ({ budget }, value) => {
    if (value instanceof Undefined) return lazy(value, []);
    if (!(value instanceof Map)) throw new Error("only dictionaries have items");
    budget.spend(value.size);
    return lazy(value, [...value].map(([key, item]) => Tuple.make(key, item)));
  },
  join: (sandbox, value, [between = "", attribute]) => {
    const { budget } = sandbox;
    const items = budget.iterated(value).map(getter(sandbox, attribute));
    return budget.joined(items.map((item) => budget.text(item, textOf)), budget.text(between, textOf));
  },
  last,
  length,
  list: ({ budget }, value) => [...budget.iterated(value)],
  lower: onText(8, (source) => source.toLowerCase()),
  map: (sandbox, value, args, named) => {
    const attribute = named.get("attribute");
    const items = read(sandbox, value);
    if (attribute !== undefined) return lazy(value, items.map(getter(sandbox, attribute, named.get("default"))));
    const [name, ...positional] = args;
    if (name === undefined) throw new Error("`map` wants the name of a filter");
    return lazy(value, items.map((item) => applyFilter(sandbox, textOf(name), item, { positional, named })));
  },
  max: extreme(1),
  min: extreme(-1),
  pprint: (sandbox, value) => {
    const source = pretty(value);
    sandbox.budget.spendCharacters(sandbox.budget.weigh(value), 64);
    if (source.length > 79) throw new Error("`pprint` of more than a line is for debugging");
    return source;
  },
  random: ({ budget }, value) => {
    if (value instanceof Lazy) throw new Error("the items of a filter have no length");
    const items = budget.iterated(value);
    return present(items[Math.floor(Math.random() * items.length)], "an item of an empty sequence");
  },
  reject: chosen(false, false),
  rejectattr: chosen(false, true),
  replace: (sandbox, value, [old = "", fresh = "", count = null]) =>
    replaced(sandbox.budget, text(sandbox, value, 1), textOf(old), textOf(fresh), count === null ? -1 : Number(count)),
  reverse: ({ budget }, value) => {
    const items = [...budget.iterated(value)].reverse();
    if (value instanceof Lazy) return items;
    return typeof value === "string" ? items.join("") : lazy(value, items);
  },
  round: (_, value, [precision = 0, method = "common"]) => {
    if (!isInteger(precision) || Math.abs(Number(precision)) > LIMITS.precision) {
      throw new LimitExceeded("it rounds to too many digits");
    }
    if (!isNumber(value)) throw new Error(`a value of type ${typeName(value)} is not rounded`);
    const number = rounded(numberOf(value), Number(precision), textOf(method));
    return isInteger(value) && method === "common" ? number : new Real(number);
  },
  safe: onText(8, (source) => source),
  select: chosen(true, false),
  selectattr: chosen(true, true),
  slice: ({ budget }, value, [slices = 1, fill = null]) => {
    const items = budget.iterated(value);
    const count = Number(slices);
    budget.spend(Math.max(0, count));
    const [each, extra] = [Math.floor(items.length / count), items.length % count];
    const rows = Array.from({ length: Math.max(0, count) }, (_, i) => {
      const start = i * each + Math.min(i, extra);
      const row = items.slice(start, start + each + (i < extra ? 1 : 0));
      return fill !== null && i >= extra ? [...row, fill] : row;
    });
    return lazy(value, rows);
  },
  sort: (sandbox, value, [reverse = false, cased, attribute]) => {
    const paths = typeof attribute === "string" ? attribute.split(",") : [attribute];
    const gets = paths.map((path) => getter(sandbox, path));
    const key = (item: Value): Value => gets.map((get) => folded(get(item), cased));
    const items = sortable(sandbox, value);
    return items.sort((one, other) => (truthy(reverse) ? -1 : 1) * order(key(one), key(other)));
  },
  string: onText(1, (source) => source),
  striptags: (sandbox, value) => {
    const source = text(sandbox, value, 4);
    sandbox.budget.spendCharacters(source.length * source.split("<").length, 4);
    return source.replace(/<!--.*?-->|<[^>]*>/gs, "").split(/\s+/).filter(Boolean).join(" ");
  },
  sum: (sandbox, value, [attribute, start = 0]) => {
    const get = getter(sandbox, attribute);
    if (typeof start === "string") throw new Error("text is not summed, but joined");
    return sandbox.budget.iterated(value).reduce((sum, item) => arithmetic(sandbox.budget, "+", sum, get(item)), start);
  },
  title: onText(32, (source) => source.replace(/[^-\s({[<]+/g, capitalize)),
  tojson,
  trim: (sandbox, value, [chars = null]) => strip(sandbox.budget, text(sandbox, value, 1), chars, true, true),
  truncate: (sandbox, value, [size = 255, kill = false, end = "...", leeway = 5]) => {
    if (value instanceof Undefined) return "";
    const items = Array.isArray(value) ? value.length : value instanceof Map ? value.size : Infinity;
    if (items <= Number(size) + Number(leeway)) return value;
    const source = stringOf(value);
    sandbox.budget.spendCharacters(source.length);
    const ending = textOf(end);
    sandbox.budget.checkSize(source.length + ending.length);
    if (lengthOf(source) <= Number(size) + Number(leeway)) return source;
    const cut = characters(source).slice(0, Number(size) - ending.length).join("");
    return (truthy(kill) || !cut.includes(" ") ? cut : cut.slice(0, cut.lastIndexOf(" "))) + ending;
  },
  unique: (sandbox, value, [cased, attribute]) => {
    const get = getter(sandbox, attribute);
    const seen = new Set<string>();
    const fresh = (item: Value): boolean => {
      const key = reprOf(folded(get(item), cased));
      return !seen.has(key) && seen.add(key) !== undefined;
    };
    return lazy(value, sortable(sandbox, value).filter(fresh));
  },
  upper: onText(8, (source) => source.toUpperCase()),
  urlencode: (sandbox, value) => {
    if (value instanceof Map || Array.isArray(value)) {
      const pairs = value instanceof Map ? [...value] : (value as Value[][]);
      const quote = (part: Value | undefined): string =>
        quotedUrl(text(sandbox, part ?? null, 32), /[^A-Za-z0-9_.~ -]/gu).replaceAll(" ", "+");
      if (!pairs.every((pair) => Array.isArray(pair) && pair.length === 2)) throw new Error("`urlencode` wants pairs");
      return pairs.map(([key, item]) => `${quote(key)}=${quote(item)}`).join("&");
    }
    return quotedUrl(text(sandbox, value, 32), /[^A-Za-z0-9_.~/-]/gu);
  },
  wordcount: onText(32, (source) => (source.match(/[\p{L}\p{N}_]+/gu) ?? []).length),
  wordwrap: (sandbox, value, [width = 79, breakLong = true, between = "\n"]) => {
    const { budget } = sandbox;
    const source = stringOf(value);
    budget.spendCharacters(source.length, 64);
    const step = Math.max(1, Number(width));
    const separator = textOf(between ?? "\n");
    budget.spendCharacters((source.length * source.length) / step);
    budget.checkSize(source.length + ((2 * source.length) / step + source.split("\n").length) * separator.length);
    return source.replace(/\n$/, "").split("\n").flatMap((line) => wrapped(line, step, truthy(breakLong))).join(separator);
  },
  xmlattr: (sandbox, value, [space = true]) => {
    if (!(value instanceof Map)) throw new Error("only dictionaries are attributes");
    const pairs = [...value].filter(([, item]) => item !== null && !(item instanceof Undefined));
    if (pairs.some(([key]) => /[\s/>=]/.test(textOf(key)))) throw new Error("its attribute has a forbidden character");
    const written = pairs.map(([key, item]) => `${escaped(text(sandbox, key, 32))}="${escaped(text(sandbox, item, 32))}"`).join(" ");
    return written && truthy(space) ? ` ${written}` : written;
  },
};

/** Write a value as Python's `pprint` does within a line: dictionaries in the order of their keys. */
function pretty(value: Value): string {
  if (value instanceof Map) {
    const keys = [...value.keys()].sort((one, other) => (textOf(one) < textOf(other) ? -1 : 1));
    return `{${keys.map((key) => `${reprOf(key)}: ${pretty(value.get(key) ?? null)}`).join(", ")}}`;
  }
  return Array.isArray(value) && !(value instanceof Tuple) ? `[${value.map(pretty).join(", ")}]` : reprOf(value);
}

