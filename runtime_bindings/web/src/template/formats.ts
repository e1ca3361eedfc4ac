/** Python's two ways to format text, `%` and `str.format`, and its JSON. */
import { type Budget, checkWritable, isContainer, LimitExceeded } from "./budget.js";
import { ITEM, LIMITS } from "./limits.js";
import { type Arguments, isNumber, lengthOf, numberOf, Real, realText, reprOf, textOf, Tuple, typeName, Undefined, type Value } from "./values.js";

/** Return `text % value`, after a check of its widths, its precisions and the size of its result. */
export function percentFormat(budget: Budget, text: string, value: Value): string {
  budget.spendCharacters(text.length, 8);
  const fields = text.split("%").length - 1;
  const repeated = value instanceof Map ? fields : 1;
  budget.checkSize(text.length + fields * LIMITS.formatWidth + budget.size(value) * repeated);
  const values = value instanceof Tuple ? [...value] : [value];
  let used = 0;
  const pattern = /%(?:\(([^()]*)\))?([#0\- +]*)(\*|\d+)?(?:\.(\*|\d*))?([a-zA-Z%(])?/g;
  const written = text.replace(pattern, (_, key?: string, flags = "", width?: string, precision?: string, kind?: string) => {
    if (kind === undefined || kind === "(") throw new Error("its format is incomplete");
    checkWidths(width, precision);
    if (kind === "%") return "%";
    if (key === undefined && used >= values.length) throw new Error("its format has not enough arguments");
    if (key !== undefined && !(value instanceof Map && value.has(key))) throw new Error(`its format has no \`${key}\``);
    const item = key === undefined ? values[used++] : (value as Map<Value, Value>).get(key);
    return padded(converted(item ?? null, kind, flags as string, precision), flags as string, width);
  });
  const mapping = value instanceof Undefined || (isContainer(value) && !(value instanceof Tuple)); // as Python takes lists for one
  if (!mapping && used < values.length) throw new Error("its format has too many arguments");
  return written;
}

function checkWidths(...numbers: (string | undefined)[]): void {
  if (numbers.some((number) => number === "*" || (number && Number(number) > LIMITS.formatWidth))) {
    throw new LimitExceeded("its format is too wide");
  }
}

function converted(value: Value, kind: string, flags: string, precision?: string): string {
  if (kind === "s" || kind === "r" || kind === "a") {
    checkWritable(value);
    const text = kind === "s" ? textOf(value) : reprOf(value);
    return precision === undefined ? text : text.slice(0, Number(precision));
  }
  if (!isNumber(value)) throw new Error(`its format wants a number, not a value of type ${typeName(value)}`);
  const number = numberOf(value);
  const whole = "diuxXo".includes(kind) ? Math.trunc(number) : number;
  const sign = whole < 0 || (Object.is(whole, -0) && whole === number) ? "-" : flags.includes("+") ? "+" : flags.includes(" ") ? " " : "";
  return sign + digits(Math.abs(number), kind, precision);
}

function digits(number: number, kind: string, precision?: string): string {
  const places = Math.min(Number(precision || (precision === undefined ? 6 : 0)), 100);
  if ("diu".includes(kind)) return String(Math.trunc(number));
  if (kind === "x") return number.toString(16);
  if (kind === "X") return number.toString(16).toUpperCase();
  if (kind === "o") return number.toString(8);
  if ("fF".includes(kind)) return number.toFixed(places);
  if ("eE".includes(kind)) return number.toExponential(places).replace(/e([+-])(\d)$/, "e$10$2");
  if ("gG".includes(kind)) return String(Number(number.toPrecision(places || 1)));
  throw new Error(`\`%${kind}\` is not a format`);
}

function padded(text: string, flags: string, width?: string): string {
  if (width === undefined) return text;
  if (flags.includes("-")) return aligned(text, " ", "<", Number(width));
  if (!flags.includes("0")) return aligned(text, " ", ">", Number(width));
  const sign = /^[+-]/.test(text) ? text.charAt(0) : "";
  return sign + text.slice(sign.length).padStart(Number(width) - sign.length, "0");
}

/** Look values up for fields such as `{0.name[key]}`. */
export interface Lookup {
  attribute(value: Value, name: string): Value;
  item(value: Value, key: Value): Value;
}

/** Return `text.format(...)`, whose fields reach no further than the template itself does. */
export function braceFormat(budget: Budget, lookup: Lookup, text: string, args: Arguments): string {
  budget.spendCharacters(text.length, 8);
  let size = 0;
  let automatic = 0;
  const field = (expression: string): string => {
    const [, path = "", conversion, spec = ""] = /^([^!:]*)(?:!([rsa]))?(?::(.*))?$/s.exec(expression) ?? [];
    if (/[{}]/.test(spec)) throw new LimitExceeded("it nests fields in a format");
    checkWidths(...(spec.match(/\d+/g) ?? []));
    const [first = "", ...rest] = path.match(/^[^.[]*|\.[^.[]+|\[[^\]]+\]/g) ?? [];
    const place = first === "" ? automatic++ : first;
    let value = /^\d+$/.test(String(place)) ? args.positional[Number(place)] : args.named.get(String(place));
    if (value === undefined) throw new Error(`its format has no argument \`${place}\``);
    for (const step of rest) {
      const name = step.startsWith(".") ? step.slice(1) : step.slice(1, -1);
      value = step.startsWith(".") ? lookup.attribute(value, name) : lookup.item(value, /^\d+$/.test(name) ? Number(name) : name);
    }
    const written = conversion === "r" ? (budget.size(value), reprOf(value)) : specified(budget, value, spec);
    size += written.length;
    budget.checkSize(size);
    budget.spendCharacters(written.length);
    return written;
  };
  return text.replace(/\{\{|\}\}|\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}|[{}]/g, (whole, expression?: string) => {
    if (whole === "{{" || whole === "}}") return whole.charAt(0);
    if (expression === undefined) throw new Error("its format has a single brace");
    return field(expression);
  });
}

function specified(budget: Budget, value: Value, spec: string): string {
  if (!spec) return budget.text(value, textOf);
  const [, fill = " ", align, flags = "", zero, width, precision, kind] =
    /^(?:(.)(?=[<>^=]))?([<>^=])?([+ #-]*)(0)?(\d+)?,?(?:\.(\d+))?([a-zA-Z%])?$/s.exec(spec) ?? [];
  if (typeof value === "string") {
    const text = precision === undefined ? value : value.slice(0, Number(precision));
    return aligned(text, fill, align ?? "<", Number(width ?? 0));
  }
  if (!isNumber(value)) throw new Error(`a format for a value of type ${typeName(value)}`);
  const bare = kind === undefined && precision === undefined;
  const text = bare ? textOf(value) : converted(value, kind ?? "g", flags, precision);
  if (zero) return padded(text, "0", width);
  return aligned(text, fill, align ?? ">", Number(width ?? 0));
}

function aligned(text: string, fill: string, align: string, width: number): string {
  const missing = Math.max(0, width - lengthOf(text));
  const before = align === "^" ? Math.floor(missing / 2) : align === "<" ? 0 : missing;
  return fill.repeat(before) + text + fill.repeat(missing - before);
}

export interface JsonOptions {
  ascii: boolean;
  indent: string | null;
  separators: [string, string];
  sorted: boolean;
}

/** Write JSON as Python's `json.dumps` does. */
export function jsonOf(budget: Budget, value: Value, options: JsonOptions): string {
  const weight = budget.weigh(value);
  const between = options.separators[0].length + options.separators[1].length;
  const step = options.indent?.length ?? 0;
  if (step > ITEM) throw new LimitExceeded(`it indents JSON by more than ${ITEM}`);
  budget.checkSize(weight + Math.floor(weight / ITEM) * (between + 1 + step * budget.depth));
  budget.spendCharacters(weight, 8);
  return budget.admit(json(value, options, "\n"));
}

function json(value: Value, options: JsonOptions, line: string): string {
  if (value === null || typeof value === "boolean" || typeof value === "number") return JSON.stringify(value);
  if (typeof value === "string") return jsonText(value, options);
  if (value instanceof Real) return realText(value.value).replace("inf", "Infinity").replace("nan", "NaN");
  if (!isContainer(value)) throw new Error(`a value of type ${typeName(value)} cannot be written as JSON`);
  const deeper = options.indent === null ? "" : line + options.indent;
  const end = options.indent === null ? "" : line;
  const between = options.separators[0] + deeper;
  if (Array.isArray(value)) {
    return value.length ? `[${deeper}${value.map((item) => json(item, options, deeper)).join(between)}${end}]` : "[]";
  }
  const keys = [...value.keys()];
  if (options.sorted) keys.sort((one, other) => (String(one) < String(other) ? -1 : 1));
  const items = keys.map((key) => {
    const name = typeof key === "string" ? key : key === null ? "null" : String(key);
    return jsonText(name, options) + options.separators[1] + json(value.get(key) ?? null, options, deeper);
  });
  return items.length ? `{${deeper}${items.join(between)}${end}}` : "{}";
}

function jsonText(text: string, options: JsonOptions): string {
  const written = JSON.stringify(text);
  if (!options.ascii) return written;
  return written.replace(/[\x7f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
