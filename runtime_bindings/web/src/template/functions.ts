/** The functions that a template may call. */
import { type Budget, LimitExceeded, Refusal } from "./budget.js";
import { checkAttribute } from "./interpreter.js";
import { LIMITS } from "./limits.js";
import { type Arguments, Callable, Fields, isInteger, keyOf, Namespace, textOf, type Value } from "./values.js";

export function templateFunctions(budget: Budget): Map<string, Value> {
  const dictOf = ({ positional, named }: Arguments): Map<Value, Value> => {
    const [given = null] = positional;
    const pairs = given instanceof Map ? [...given] : given === null ? [] : budget.iterated(given).map((pair) => budget.iterated(pair));
    for (const pair of pairs) if (pair.length !== 2) throw new Error("a dictionary is made of pairs");
    return new Map([...pairs.map(([key, item]): [Value, Value] => [keyOf(key ?? null), item ?? null]), ...named]);
  };
  /** Return the arguments of a function in their places, of which `names` may be given by name. */
  const placed = ({ positional, named }: Arguments, ...names: string[]): Value[] => {
    const other = [...named.keys()].find((name) => !names.includes(name));
    if (other !== undefined) throw new Error(`the function has no argument \`${other}\``);
    return positional.length ? positional : names.flatMap((name) => named.get(name) ?? []);
  };
  const functions: Record<string, (args: Arguments) => Value> = {
    range: (args) => range(budget, placed(args)),
    dict: (args) => {
      const dict = dictOf(args);
      budget.weigh(dict);
      return dict;
    },
    namespace: (args) => {
      const attributes = new Map([...dictOf(args)].map(([key, item]) => [textOf(key), item]));
      for (const name of attributes.keys()) checkAttribute(name);
      return new Namespace(attributes);
    },
    cycler: (args) => cycler(placed(args)),
    joiner: (args) => joiner(budget, placed(args, "sep")[0] ?? ", "),
    raise_exception: (args) => {
      throw new Refusal(textOf(placed(args, "message")[0] ?? "").slice(0, 1000));
    },
    strftime_now: (args) => strftimeNow(textOf(placed(args, "format")[0] ?? null)),
  };
  return new Map(Object.entries(functions).map(([name, call]) => [name, new Callable(call)]));
}

/** Python's `range`. */
function range(budget: Budget, args: Value[]): number[] {
  if (!args.length || args.length > 3 || !args.every(isInteger)) throw new Error("`range` wants one to three integers");
  const [first = 0, second, third] = args.map(Number);
  const [from, to] = second === undefined ? [0, first] : [first, second];
  const step = third ?? 1;
  if (step === 0) throw new Error("the step of `range` is zero");
  const count = Math.max(0, Math.ceil((to - from) / step));
  if (!(count <= LIMITS.range)) throw new LimitExceeded(`its range has more than ${LIMITS.range} numbers`);
  budget.spend(count >> 3);
  return Array.from({ length: count }, (_, i) => from + i * step);
}

function cycler(items: Value[]): Fields {
  if (!items.length) throw new Error("at least one item has to be provided");
  let place = 0;
  const current = (): Value => items[place] ?? null;
  return new Fields((name) => {
    if (name === "current") return current();
    if (name === "reset") return new Callable(() => ((place = 0), null));
    if (name !== "next") return undefined;
    return new Callable(() => {
      const item = current();
      place = (place + 1) % items.length;
      return item;
    });
  });
}

function joiner(budget: Budget, separator: Value): Callable {
  let used = false;
  return new Callable(() => {
    if (used) return budget.text(separator, textOf);
    used = true;
    return "";
  });
}

/** Format the present local time with the `strftime` directives that templates use. */
function strftimeNow(format: string): string {
  if (format.length > LIMITS.formatWidth || /%[^a-zA-Z%]*\d/.test(format)) {
    throw new LimitExceeded("its format of the date is too wide");
  }
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
  return format.replace(/%-?(.)/g, (whole, directive: string) => {
    const text = parts[directive]?.();
    if (text === undefined) return whole;
    return whole.startsWith("%-") ? text.replace(/^0(?=.)/, "") : text;
  });
}

