/** Run a parsed template. Every step is charged to a budget in proportion to what it reads and makes. */
import { Budget, characterAt, LimitExceeded, weightOfInput } from "./budget.js";
import { applyFilter, isFilter, type Sandbox } from "./filters.js";
import { CALL, LIMITS } from "./limits.js";
import { arithmetic, compared, isHidden, methodOf, part } from "./methods.js";
import type { CallArguments, Expression, Parameters, Statement, Target } from "./parser.js";
import { applyTest, isTest } from "./tests.js";
import {
  type Arguments,
  Callable,
  equal,
  Fields,
  Group,
  isInteger,
  isNumber,
  keyOf,
  Namespace,
  numberOf,
  present,
  Real,
  textOf,
  truthy,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.js";

class Scope {
  private readonly values = new Map<string, Value>();

  constructor(private readonly parent: Scope | null) {}

  get(name: string): Value | undefined {
    for (let scope: Scope | null = this; scope; scope = scope.parent) {
      const value = scope.values.get(name);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  set(name: string, value: Value): void {
    this.values.set(name, value);
  }
}

/** How a body ended. */
type Flow = "through" | "break" | "continue";

/** Run a template with its functions and variables, and return the text that it writes. */
export function run(template: Statement[], functions: (budget: Budget) => Map<string, Value>, variables: Map<string, Value>): string {
  const budget = new Budget(weightOfInput(variables));
  const globals = new Scope(null);
  for (const [name, value] of [...functions(budget), ...variables]) globals.set(name, value);
  const output: string[] = [];
  new Interpreter(budget).body(template, new Scope(globals), output);
  return budget.joined(output);
}

class Interpreter implements Sandbox {
  private size = 0;

  constructor(readonly budget: Budget) {}

  body(statements: Statement[], scope: Scope, output: string[]): Flow {
    this.budget.spend(1);
    for (const statement of statements) {
      const flow = this.statement(statement, scope, output);
      if (flow !== "through") return flow;
    }
    return "through";
  }

  private write(text: string, output: string[]): void {
    this.budget.spendCharacters(text.length);
    this.size += text.length;
    this.budget.checkSize(this.size);
    output.push(text);
  }

  private statement(statement: Statement, scope: Scope, output: string[]): Flow {
    switch (statement.kind) {
      case "data":
        this.write(statement.text, output);
        return "through";
      case "output":
        this.write(this.budget.text(this.value(statement.value, scope), textOf), output);
        return "through";
      case "if": {
        const branch = statement.branches.find(([test]) => truthy(this.value(test, scope)));
        return this.body(branch?.[1] ?? statement.other, scope, output);
      }
      case "for":
        this.loop(statement, scope, output);
        return "through";
      case "set":
        this.assign(statement.target, this.value(statement.value, scope), scope);
        return "through";
      case "capture": {
        const text = this.captured(statement.body, scope);
        this.assign(statement.target, statement.filter ? this.filtered(statement.filter, text, scope) : text, scope);
        return "through";
      }
      case "macro":
        scope.set(statement.name, this.macro(statement.name, statement.parameters, statement.body, scope));
        return "through";
      case "call":
        this.write(this.budget.text(this.callBlock(statement, scope), textOf), output);
        return "through";
      case "filter":
        this.write(this.budget.text(this.filtered(statement.filter, this.captured(statement.body, scope), scope), textOf), output);
        return "through";
      case "with": {
        const inner = new Scope(scope);
        for (const [target, value] of statement.values) this.assign(target, this.value(value, scope), inner);
        return this.body(statement.body, inner, output);
      }
      case "group":
        return this.body(statement.body, scope, output);
      default:
        return statement.kind;
    }
  }

  /** Return what a body writes, as one text. */
  private captured(body: Statement[], scope: Scope): string {
    const parts: string[] = [];
    this.body(body, new Scope(scope), parts);
    this.size -= parts.reduce((sum, text) => sum + text.length, 0);
    return this.budget.joined(parts);
  }

  private assign(target: Target, value: Value, scope: Scope): void {
    if (target.kind === "name") {
      scope.set(target.name, value);
    } else if (target.kind === "attribute") {
      const namespace = scope.get(target.namespace);
      if (!(namespace instanceof Namespace)) throw new Error("cannot assign attribute on non-namespace object");
      checkAttribute(target.name);
      namespace.attributes.set(target.name, value);
    } else {
      const items = this.budget.iterated(value);
      if (items.length !== target.items.length) throw new Error(`it unpacks ${items.length} values into ${target.items.length}`);
      target.items.forEach((item, i) => this.assign(item, items[i] as Value, scope));
    }
  }

  private loop(statement: Statement & { kind: "for" }, scope: Scope, output: string[], items?: Value, depth = 0): void {
    let all = this.budget.iterated(items ?? this.value(statement.items, scope));
    if (statement.test) {
      const { test, target } = statement;
      all = all.filter((item) => {
        const inner = new Scope(scope);
        this.budget.spend(1);
        this.assign(target, item, inner);
        return truthy(this.value(test, inner));
      });
    }
    if (!all.length) this.body(statement.other, new Scope(scope), output);
    let seen: Value | undefined;
    for (const [index, item] of all.entries()) {
      const inner = new Scope(scope);
      const changed = (value: Value): boolean => {
        const differs = seen === undefined || !equal(seen, value);
        seen = value;
        return differs;
      };
      const again = statement.recursive ? (next: Value) => this.again(statement, scope, next, depth + 1) : null;
      inner.set("loop", this.loopFields(all, index, depth, changed, again));
      this.assign(statement.target, item, inner);
      if (this.body(statement.body, inner, output) === "break") break;
    }
  }

  private again(statement: Statement & { kind: "for" }, scope: Scope, items: Value, depth: number): string {
    return this.deeper(() => {
      const parts: string[] = [];
      this.loop(statement, scope, parts, items, depth);
      this.size -= parts.reduce((sum, text) => sum + text.length, 0);
      return this.budget.joined(parts);
    });
  }

  private loopFields(
    items: Value[],
    index: number,
    depth: number,
    changed: (value: Value) => boolean,
    again: ((items: Value) => string) | null,
  ): Fields {
    const fields: Record<string, () => Value> = {
      index: () => index + 1,
      index0: () => index,
      revindex: () => items.length - index,
      revindex0: () => items.length - index - 1,
      first: () => index === 0,
      last: () => index === items.length - 1,
      length: () => items.length,
      depth: () => depth + 1,
      depth0: () => depth,
      previtem: () => present(items[index - 1], "the previous item"),
      nextitem: () => present(items[index + 1], "the next item"),
      cycle: () => new Callable(({ positional }) => present(positional[index % positional.length], "no items for cycling given")),
      changed: () => new Callable(({ positional }) => (this.budget.size(positional), changed(Tuple.make(...positional)))),
    };
    const get = (name: string): Value | undefined => (Object.hasOwn(fields, name) ? fields[name]?.() : undefined);
    return again ? new Recursion(get, again) : new Fields(get);
  }

  private macro(name: string, parameters: Parameters, body: Statement[], scope: Scope): Callable {
    return new Callable(({ positional, named }) =>
      this.deeper(() => {
        const inner = new Scope(scope);
        const rest = new Map(named);
        const caller = rest.get("caller");
        rest.delete("caller");
        for (const [i, parameter] of parameters.names.entries()) {
          const given = i < positional.length ? positional[i] : rest.get(parameter);
          if (i >= positional.length) rest.delete(parameter);
          const other = parameters.defaults.get(parameter);
          inner.set(parameter, given === undefined && other ? this.value(other, inner) : present(given, parameter));
        }
        const used = namesIn(body);
        if (rest.size && !used.has("kwargs")) fail(`macro '${name}' takes no keyword argument '${[...rest.keys()][0]}'`);
        if (positional.length > parameters.names.length && !used.has("varargs")) fail(`macro '${name}' takes fewer arguments`);
        inner.set("varargs", Tuple.make(...positional.slice(parameters.names.length)));
        inner.set("kwargs", rest);
        inner.set("caller", caller ?? new Undefined("caller"));
        return this.captured(body, inner);
      }),
    );
  }

  private callBlock(statement: Statement & { kind: "call" }, scope: Scope): Value {
    const { call } = statement;
    if (call.kind !== "call") return fail("expected call");
    const args = this.arguments(call.args, scope);
    args.named.set("caller", this.macro("caller", statement.parameters, statement.body, scope));
    return this.called(this.value(call.callee, scope), args);
  }

  /** Run a macro one level deeper. */
  private deeper<T>(work: () => T): T {
    this.budget.spend(CALL);
    if (++this.budget.calls > LIMITS.calls) throw new LimitExceeded("it calls macros too deep in each other");
    const result = work();
    this.budget.calls--;
    return result;
  }

  private filtered(filter: Expression, value: Value, scope: Scope): Value {
    if (filter.kind !== "filter") return fail("expected a filter");
    const inner = filter.value === null ? value : this.filtered(filter.value, value, scope);
    return applyFilter(this, filter.name, inner, this.arguments(filter.args, scope));
  }

  private value(node: Expression, scope: Scope): Value {
    this.budget.spend(1);
    switch (node.kind) {
      case "constant": return node.value;
      case "name": return present(scope.get(node.name), node.name);
      case "list": return this.bounded(node.items.map((item) => this.value(item, scope)));
      case "tuple": return this.bounded(Tuple.make(...node.items.map((item) => this.value(item, scope))));
      case "dict": return this.bounded(new Map(node.items.map(([key, item]) => [keyOf(this.value(key, scope)), this.value(item, scope)])));
      case "attribute": return this.attributeOrItem(this.value(node.object, scope), node.name);
      case "item": return this.item(this.value(node.object, scope), this.value(node.key, scope));
      case "part": {
        const object = this.value(node.object, scope);
        const [start = null, stop = null, step = null] = node.bounds.map((bound) => (bound ? this.value(bound, scope) : null));
        return part(this.budget, object, start, stop, step);
      }
      case "call": return this.called(this.value(node.callee, scope), this.arguments(node.args, scope));
      case "filter": {
        const value = node.value === null ? null : this.value(node.value, scope);
        return applyFilter(this, node.name, value, this.arguments(node.args, scope));
      }
      case "test": return this.tested(node, scope) !== node.negated;
      case "unary": return this.signed(node.operator, this.value(node.value, scope));
      case "arithmetic": return arithmetic(this.budget, node.operator, this.value(node.left, scope), this.value(node.right, scope));
      case "logic": {
        const left = this.value(node.left, scope);
        return truthy(left) === (node.operator === "and") ? this.value(node.right, scope) : left;
      }
      case "comparison": return this.comparison(node, scope);
      case "concatenation":
        return this.budget.joined(node.items.map((item) => this.budget.text(this.value(item, scope), textOf)));
      case "condition":
        if (truthy(this.value(node.test, scope))) return this.value(node.yes, scope);
        return node.no ? this.value(node.no, scope) : new Undefined("the value of a condition without `else`");
    }
  }

  private bounded<T extends Value>(value: T): T {
    this.budget.weigh(value);
    return value;
  }

  private comparison(node: Expression & { kind: "comparison" }, scope: Scope): boolean {
    const values = [node.first, ...node.rest.map(([, other]) => other)].map((one) => this.value(one, scope));
    return node.rest.every(([operator], i) => compared(this.budget, operator, values[i] as Value, values[i + 1] as Value));
  }

  private tested(node: Expression & { kind: "test" }, scope: Scope): boolean {
    const value = this.value(node.value, scope);
    if (node.name === "filter") return isFilter(textOf(value));
    if (node.name === "test") return isTest(textOf(value)) || ["filter", "test"].includes(textOf(value));
    return applyTest(this.budget, node.name, value, this.arguments(node.args, scope).positional);
  }

  private signed(operator: string, value: Value): Value {
    if (operator === "not") return !truthy(value);
    if (!isNumber(value)) throw new Error(`a value of type ${typeName(value)} has no sign`);
    const number = operator === "-" ? -numberOf(value) : numberOf(value);
    return value instanceof Real ? new Real(number) : number + 0;
  }

  private arguments(args: CallArguments, scope: Scope): Arguments {
    const positional = args.positional.map((item) => this.value(item, scope));
    const named = new Map(args.named.map(([name, item]) => [name, this.value(item, scope)]));
    if (args.spread) for (const item of this.budget.iterated(this.value(args.spread, scope))) positional.push(item);
    if (args.namedSpread) {
      const spread = this.value(args.namedSpread, scope);
      if (!(spread instanceof Map)) throw new Error("`**` wants a dictionary");
      for (const [key, item] of spread) named.set(textOf(key), item);
    }
    return { positional, named };
  }

  private called(callee: Value, args: Arguments): Value {
    this.budget.spend(CALL + args.positional.length + args.named.size);
    if (callee instanceof Recursion) return callee.again(args.positional[0] ?? null);
    if (!(callee instanceof Callable)) throw new Error(`a value of type ${typeName(callee)} is not a function`);
    return this.budget.admit(callee.call(args));
  }

  /** Return an attribute, or else an item, as Jinja does for `value.name`. */
  private attributeOrItem(value: Value, name: string): Value {
    if (value instanceof Map && !methodOf(this.budget, this, value, name) && !isHidden(name) && value.has(name)) {
      this.budget.spend(1);
      return value.get(name) ?? null;
    }
    return this.attribute(value, name);
  }

  attribute(value: Value, name: string): Value {
    this.budget.spend(1);
    if (value instanceof Undefined && !name.startsWith("__")) throw new Error(`${value.name} is undefined`);
    if (value instanceof Namespace) return present(name.startsWith("_") ? undefined : value.attributes.get(name), name);
    if (value instanceof Group && (name === "grouper" || name === "list")) return value[name === "list" ? 1 : 0] ?? null;
    if (value instanceof Fields) return present(value.get(name), name);
    return present(methodOf(this.budget, this, value, name), name);
  }

  /** Return an item, or else an attribute, as Jinja does for `value["name"]`. */
  item(value: Value, key: Value): Value {
    this.budget.spend(1);
    if (value instanceof Undefined) throw new Error(`${value.name} is undefined`);
    if (value instanceof Map && !(Array.isArray(key) || key instanceof Map)) {
      const found = value.get(keyOf(key));
      if (found !== undefined) return found;
    } else if (isInteger(key) && typeof value === "string") {
      return present(characterAt(this.budget, value, Number(key)), String(key));
    } else if (isInteger(key) && Array.isArray(value)) {
      return present(value.at(Number(key)), String(key));
    }
    return typeof key === "string" ? this.attribute(value, key) : new Undefined(textOf(key instanceof Real ? key : null));
  }
}

/** A recursive loop, which can be called with further items. */
class Recursion extends Fields {
  constructor(
    get: (name: string) => Value | undefined,
    readonly again: (items: Value) => string,
  ) {
    super(get);
  }
}

export function checkAttribute(name: string): void {
  if (name.startsWith("_")) throw new LimitExceeded("it gives a namespace an attribute with an underscore before its name");
}

function fail(reason: string): never {
  throw new Error(reason);
}

const names = new WeakMap<object, Set<string>>();

/** Return the names that a body reads, to know whether a macro takes any number of arguments. */
function namesIn(body: Statement[]): Set<string> {
  const known = names.get(body);
  if (known) return known;
  const found = new Set<string>();
  const visit = (node: unknown): void => {
    if (typeof node !== "object" || node === null) return;
    const { kind, name } = node as { kind?: unknown; name?: unknown };
    if (kind === "name" && typeof name === "string") found.add(name);
    for (const part of node instanceof Map ? node.values() : Object.values(node)) visit(part);
  };
  visit(body);
  names.set(body, found);
  return found;
}
