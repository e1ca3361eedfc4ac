/** Parse a Jinja template, within bounds on the number and the nesting of its nodes. */
import { LimitExceeded } from "./budget.js";
import { type Token, TemplateSyntaxError, tokenize } from "./lexer.js";
import { LIMITS } from "./limits.js";
import { Real, type Value } from "./values.js";

export interface CallArguments {
  positional: Expression[];
  named: [string, Expression][];
  spread: Expression | null;
  namedSpread: Expression | null;
}

export type Expression =
  | { kind: "constant"; value: Value }
  | { kind: "name"; name: string }
  | { kind: "list" | "tuple"; items: Expression[] }
  | { kind: "dict"; items: [Expression, Expression][] }
  | { kind: "attribute"; object: Expression; name: string }
  | { kind: "item"; object: Expression; key: Expression }
  | { kind: "part"; object: Expression; bounds: (Expression | null)[] }
  | { kind: "call"; callee: Expression; args: CallArguments }
  | { kind: "filter"; value: Expression | null; name: string; args: CallArguments }
  | { kind: "test"; value: Expression; name: string; args: CallArguments; negated: boolean }
  | { kind: "unary"; operator: string; value: Expression }
  | { kind: "arithmetic" | "logic"; operator: string; left: Expression; right: Expression }
  | { kind: "comparison"; first: Expression; rest: [string, Expression][] }
  | { kind: "concatenation"; items: Expression[] }
  | { kind: "condition"; test: Expression; yes: Expression; no: Expression | null };

export type Target =
  | { kind: "name"; name: string }
  | { kind: "tuple"; items: Target[] }
  | { kind: "attribute"; namespace: string; name: string };

export interface Parameters {
  names: string[];
  defaults: Map<string, Expression>;
}

export type Statement =
  | { kind: "data"; text: string }
  | { kind: "output"; value: Expression }
  | { kind: "if"; branches: [Expression, Statement[]][]; other: Statement[] }
  | { kind: "for"; target: Target; items: Expression; test: Expression | null; recursive: boolean; body: Statement[]; other: Statement[] }
  | { kind: "set"; target: Target; value: Expression }
  | { kind: "capture"; target: Target; filter: Expression | null; body: Statement[] }
  | { kind: "macro"; name: string; parameters: Parameters; body: Statement[] }
  | { kind: "call"; call: Expression; parameters: Parameters; body: Statement[] }
  | { kind: "filter"; filter: Expression; body: Statement[] }
  | { kind: "with"; values: [Target, Expression][]; body: Statement[] }
  | { kind: "group"; body: Statement[] }
  | { kind: "break" | "continue" };

export function parse(source: string): Statement[] {
  if (source.length > LIMITS.sourceCharacters) {
    throw new LimitExceeded(`it has ${source.length} characters, and ${LIMITS.sourceCharacters} are allowed`);
  }
  return new Parser(tokenize(source)).template();
}

const CONSTANTS: Record<string, Value> = { true: true, false: false, none: null, True: true, False: false, None: null };

class Parser {
  private place = 0;
  private nodes = 0;
  private depth = 0;
  private loops = 0;

  constructor(private readonly tokens: Token[]) {}

  template(): Statement[] {
    const body = this.body([]);
    if (this.token.kind !== "end") this.fail(`unexpected '${this.tokens[this.place + 1]?.value ?? ""}'`);
    return body;
  }

  // -- tokens

  private get token(): Token {
    return this.tokens[this.place] as Token;
  }

  private fail(reason: string): never {
    throw new TemplateSyntaxError(`line ${this.token.line}: ${reason}`);
  }

  private is(kind: Token["kind"], ...values: string[]): boolean {
    return this.token.kind === kind && (!values.length || values.includes(this.token.value));
  }

  private skip(kind: Token["kind"], ...values: string[]): boolean {
    const matches = this.is(kind, ...values);
    if (matches) this.place++;
    return matches;
  }

  private expect(kind: Token["kind"], value?: string): string {
    if (!this.is(kind, ...(value === undefined ? [] : [value]))) this.fail(`expected ${value ?? kind}, got '${this.token.value}'`);
    return (this.tokens[this.place++] as Token).value;
  }

  /** Count a node, and parse it a level deeper. */
  private nested<T>(parse: () => T): T {
    this.count();
    if (++this.depth > LIMITS.nesting) throw new LimitExceeded("it nests too deep");
    const result = parse();
    this.depth--;
    return result;
  }

  private count(): void {
    if (++this.nodes > LIMITS.nodes) throw new LimitExceeded("it is larger than any chat template");
  }

  /** Count the terms of a chain such as `a + b + c`: each is a level of its tree. */
  private chain<T>(parse: (grow: () => void) => T): T {
    const depth = this.depth;
    const result = parse(() => {
      this.count();
      if (++this.depth > LIMITS.nesting) throw new LimitExceeded("it nests too deep");
    });
    this.depth = depth;
    return result;
  }

  // -- statements

  /** Parse up to a tag with one of the names in `ends`, which is left for the caller, or to the end. */
  private body(ends: string[]): Statement[] {
    return this.nested(() => {
      const statements: Statement[] = [];
      while (this.token.kind !== "end") {
        if (this.is("block") && ends.includes(this.tokens[this.place + 1]?.value ?? "")) break;
        this.count();
        if (this.is("data")) statements.push({ kind: "data", text: this.expect("data") });
        else if (this.skip("variable")) {
          statements.push({ kind: "output", value: this.tupleExpression() });
          this.expect("endVariable");
        } else if (this.skip("block")) statements.push(...this.statement());
        else this.fail(`unexpected ${this.token.kind}`);
      }
      if (ends.length && this.token.kind === "end") this.fail(`expected ${ends.join(" or ")}`);
      return statements;
    });
  }

  /** Parse a body with its end tag, of which the name is returned. */
  private block(...ends: string[]): [Statement[], string] {
    this.expect("endBlock");
    const body = this.body(ends);
    this.expect("block");
    return [body, this.expect("name")];
  }

  private statement(): Statement[] {
    const name = this.expect("name");
    const parsed = this.parsed(name);
    this.expect("endBlock");
    return parsed;
  }

  private parsed(name: string): Statement[] {
    switch (name) {
      case "if": return [this.ifStatement()];
      case "for": return [this.forStatement()];
      case "set": return [this.setStatement()];
      case "macro": {
        const macro = this.expect("name");
        return [{ kind: "macro", name: macro, parameters: this.parameters(), body: this.apart("endmacro") }];
      }
      case "call": return [this.callStatement()];
      case "filter": return [{ kind: "filter", filter: this.filters(null), body: this.block("endfilter")[0] }];
      case "with": return [this.withStatement()];
      case "generation": return [{ kind: "group", body: this.block("endgeneration")[0] }];
      case "break":
      case "continue":
        if (!this.loops) this.fail(`\`${name}\` outside of a loop`);
        return [{ kind: name }];
      default: return this.fail(`unknown tag '${name}'`);
    }
  }

  private ifStatement(): Statement {
    const branches: [Expression, Statement[]][] = [];
    for (;;) {
      const test = this.tupleExpression(false);
      const [body, end] = this.block("elif", "else", "endif");
      branches.push([test, body]);
      if (end === "elif") continue;
      return { kind: "if", branches, other: end === "else" ? this.block("endif")[0] : [] };
    }
  }

  private forStatement(): Statement {
    const target = this.target(true);
    this.expect("name", "in");
    const items = this.tupleExpression(false);
    const test = this.skip("name", "if") ? this.expression() : null;
    const recursive = this.skip("name", "recursive");
    this.loops++;
    const [body, end] = this.block("else", "endfor");
    this.loops--;
    const other = end === "else" ? this.block("endfor")[0] : [];
    return { kind: "for", target, items, test, recursive, body, other };
  }

  private setStatement(): Statement {
    const target = this.target(false);
    if (this.skip("operator", "=")) return { kind: "set", target, value: this.tupleExpression() };
    const filter = this.is("operator", "|") ? this.filters(null) : null;
    return { kind: "capture", target, filter, body: this.block("endset")[0] };
  }

  private callStatement(): Statement {
    const parameters = this.is("operator", "(") ? this.parameters() : { names: [], defaults: new Map() };
    const call = this.expression();
    if (call.kind !== "call") this.fail("expected call");
    return { kind: "call", call, parameters, body: this.apart("endcall") };
  }

  private withStatement(): Statement {
    const values: [Target, Expression][] = [];
    while (!this.is("endBlock")) {
      if (values.length) this.expect("operator", ",");
      const target = this.target(false);
      this.expect("operator", "=");
      values.push([target, this.expression()]);
    }
    return { kind: "with", values, body: this.block("endwith")[0] };
  }

  /** Parse the body of a macro, which a `break` cannot leave. */
  private apart(end: string): Statement[] {
    const loops = this.loops;
    this.loops = 0;
    const [body] = this.block(end);
    this.loops = loops;
    return body;
  }

  private parameters(): Parameters {
    const names: string[] = [];
    const defaults = new Map<string, Expression>();
    this.expect("operator", "(");
    while (!this.skip("operator", ")")) {
      if (names.length) this.expect("operator", ",");
      const name = this.expect("name");
      names.push(name);
      if (this.skip("operator", "=")) defaults.set(name, this.expression());
      else if (defaults.size) this.fail("non-default argument follows default argument");
    }
    return { names, defaults };
  }

  private target(loop: boolean): Target {
    const items: Target[] = [];
    let tuple = false;
    do {
      if (items.length && !this.is("name") && !this.is("operator", "(")) break;
      items.push(this.singleTarget(loop));
      if (!this.skip("operator", ",")) break;
      tuple = true;
    } while (!this.is("operator", "="));
    return tuple ? { kind: "tuple", items } : (items[0] as Target);
  }

  private singleTarget(loop: boolean): Target {
    this.count();
    if (this.skip("operator", "(")) {
      const inner = this.nested(() => this.target(loop));
      this.expect("operator", ")");
      return inner;
    }
    const name = this.expect("name");
    if (Object.hasOwn(CONSTANTS, name) || (loop && name === "loop")) this.fail(`can't assign to '${name}'`);
    if (!loop && this.skip("operator", ".")) return { kind: "attribute", namespace: name, name: this.expect("name") };
    return { kind: "name", name };
  }

  // -- expressions, from the operators that bind least to those that bind most

  private tupleExpression(condition = true): Expression {
    const single = (): Expression => (condition ? this.expression() : this.nested(() => this.logic("or")));
    const first = single();
    if (!this.is("operator", ",")) return first;
    const items = [first];
    while (this.skip("operator", ",")) {
      if (this.is("endVariable") || this.is("endBlock") || this.is("operator", ")") || this.is("name", "if")) break;
      items.push(single());
    }
    return { kind: "tuple", items };
  }

  private expression(): Expression {
    return this.nested(() =>
      this.chain((grow) => {
        let yes = this.logic("or");
        while (this.skip("name", "if")) {
          grow();
          const test = this.logic("or");
          const no = this.skip("name", "else") ? this.expression() : null;
          yes = { kind: "condition", test, yes, no };
        }
        return yes;
      }),
    );
  }

  private logic(operator: "or" | "and"): Expression {
    const operand = (): Expression => (operator === "or" ? this.logic("and") : this.negation());
    return this.chain((grow) => {
      let left = operand();
      while (this.skip("name", operator)) {
        grow();
        left = { kind: "logic", operator, left, right: operand() };
      }
      return left;
    });
  }

  private negation(): Expression {
    if (!this.skip("name", "not")) return this.comparison();
    return { kind: "unary", operator: "not", value: this.nested(() => this.negation()) };
  }

  private comparison(): Expression {
    const first = this.sum();
    const rest: [string, Expression][] = [];
    for (;;) {
      const negated = this.is("name", "not") && this.tokens[this.place + 1]?.value === "in";
      if (negated) this.place++;
      const operator = this.token.value;
      if (!this.skip("operator", "==", "!=", "<", "<=", ">", ">=") && !this.skip("name", "in")) break;
      this.count();
      rest.push([negated ? "not in" : operator, this.sum()]);
    }
    return rest.length ? { kind: "comparison", first, rest } : first;
  }

  private sum(): Expression {
    return this.arithmetic(["+", "-"], () => this.concatenation());
  }

  private concatenation(): Expression {
    const items = [this.product()];
    while (this.skip("operator", "~")) {
      this.count();
      items.push(this.product());
    }
    return items.length > 1 ? { kind: "concatenation", items } : (items[0] as Expression);
  }

  private product(): Expression {
    return this.arithmetic(["*", "/", "//", "%"], () => this.arithmetic(["**"], () => this.signed(true)));
  }

  private arithmetic(operators: string[], operand: () => Expression): Expression {
    return this.chain((grow) => {
      let left = operand();
      for (let operator = this.token.value; this.skip("operator", ...operators); operator = this.token.value) {
        grow();
        left = { kind: "arithmetic", operator, left, right: operand() };
      }
      return left;
    });
  }

  private signed(filtered: boolean): Expression {
    const operator = this.token.value;
    const value = this.skip("operator", "-", "+")
      ? this.postfix({ kind: "unary", operator, value: this.nested(() => this.signed(false)) }, true)
      : this.postfix(this.nested(() => this.primary()), true);
    return filtered ? this.filters(value) : value;
  }

  private primary(): Expression {
    const token = this.token;
    this.place++;
    switch (token.kind) {
      case "name":
        if (Object.hasOwn(CONSTANTS, token.value)) return { kind: "constant", value: CONSTANTS[token.value] ?? null };
        return { kind: "name", name: token.value };
      case "text": {
        let value = token.value;
        while (this.is("text")) value += this.expect("text");
        return { kind: "constant", value };
      }
      case "integer": {
        const value = Number(token.value);
        if (!(value <= LIMITS.integer)) throw new LimitExceeded("it has an integer that is too large");
        return { kind: "constant", value };
      }
      case "real": return { kind: "constant", value: new Real(Number(token.value)) };
      default:
    }
    if (token.kind === "operator" && token.value === "(") return this.parenthesized();
    if (token.kind === "operator" && token.value === "[") return { kind: "list", items: this.series("]", () => this.expression()) };
    if (token.kind === "operator" && token.value === "{") {
      const pair = (): [Expression, Expression] => {
        const key = this.expression();
        this.expect("operator", ":");
        return [key, this.expression()];
      };
      return { kind: "dict", items: this.series("}", pair) };
    }
    this.place--;
    return this.fail(`unexpected ${token.value ? `'${token.value}'` : token.kind}`);
  }

  private parenthesized(): Expression {
    if (this.skip("operator", ")")) return { kind: "tuple", items: [] };
    const inner = this.tupleExpression();
    this.expect("operator", ")");
    return inner;
  }

  private series<T>(end: string, item: () => T): T[] {
    const items: T[] = [];
    while (!this.skip("operator", end)) {
      if (items.length) this.expect("operator", ",");
      if (this.skip("operator", end)) break;
      items.push(item());
    }
    return items;
  }

  private postfix(value: Expression, calls: boolean): Expression {
    return this.chain((grow) => {
      let result = value;
      for (;;) {
        if (this.skip("operator", ".")) {
          grow();
          result = this.is("integer")
            ? { kind: "item", object: result, key: { kind: "constant", value: Number(this.expect("integer")) } }
            : { kind: "attribute", object: result, name: this.expect("name") };
        } else if (this.skip("operator", "[")) {
          grow();
          result = this.subscript(result);
        } else if (calls && this.is("operator", "(")) {
          grow();
          result = { kind: "call", callee: result, args: this.callArguments() };
        } else return result;
      }
    });
  }

  private subscript(object: Expression): Expression {
    const bounds: (Expression | null)[] = [null];
    let slice = false;
    let keys: Expression[] = [];
    while (!this.skip("operator", "]")) {
      if (this.skip("operator", ":")) {
        slice = true;
        bounds.push(null);
      } else if (this.skip("operator", ",")) {
        if (slice) this.fail("a slice among several keys");
      } else {
        const key = this.expression();
        bounds[bounds.length - 1] = key;
        keys = [...keys, key];
      }
    }
    if (slice) {
      if (bounds.length > 3) this.fail("expected subscript expression");
      return { kind: "part", object, bounds };
    }
    if (!keys.length) this.fail("expected subscript expression");
    return { kind: "item", object, key: keys.length > 1 ? { kind: "tuple", items: keys } : (keys[0] as Expression) };
  }

  private callArguments(): CallArguments {
    const args: CallArguments = { positional: [], named: [], spread: null, namedSpread: null };
    this.expect("operator", "(");
    const add = (): void => {
      if (this.skip("operator", "*")) args.spread = this.expression();
      else if (this.skip("operator", "**")) args.namedSpread = this.expression();
      else if (this.is("name") && this.tokens[this.place + 1]?.kind === "operator" && this.tokens[this.place + 1]?.value === "=") {
        const name = this.expect("name");
        this.expect("operator", "=");
        args.named.push([name, this.expression()]);
      } else if (args.named.length || args.spread || args.namedSpread) this.fail("invalid syntax for function call expression");
      else args.positional.push(this.expression());
    };
    this.series(")", add);
    return args;
  }

  /** Parse filters, tests and calls behind a value. */
  private filters(value: Expression | null): Expression {
    return this.chain((grow) => {
      let result = value;
      if (result === null) {
        if (!this.skip("operator", "|") && !this.is("name")) this.fail("expected a filter");
        result = this.filter(null);
      }
      for (;;) {
        if (this.skip("operator", "|")) {
          grow();
          result = this.filter(result);
        } else if (this.skip("name", "is")) {
          grow();
          result = this.test(result);
        } else if (this.is("operator", "(")) {
          grow();
          result = { kind: "call", callee: result, args: this.callArguments() };
        } else return result;
      }
    });
  }

  private dotted(): string {
    let name = this.expect("name");
    while (this.skip("operator", ".")) name += `.${this.expect("name")}`;
    return name;
  }

  private none(): CallArguments {
    return { positional: [], named: [], spread: null, namedSpread: null };
  }

  private filter(value: Expression | null): Expression {
    const name = this.dotted();
    return { kind: "filter", value, name, args: this.is("operator", "(") ? this.callArguments() : this.none() };
  }

  private test(value: Expression): Expression {
    const negated = this.skip("name", "not");
    const name = this.dotted();
    let args = this.none();
    if (this.is("operator", "(")) args = this.callArguments();
    else if (this.is("name") ? !this.is("name", "else", "or", "and", "if", "in", "not", "recursive") : this.startsOperand()) {
      if (this.is("name", "is")) this.fail("You cannot chain multiple tests with is");
      args.positional.push(this.postfix(this.nested(() => this.primary()), true));
    }
    return { kind: "test", value, name, args, negated };
  }

  private startsOperand(): boolean {
    return this.is("text") || this.is("integer") || this.is("real") || this.is("operator", "[", "{");
  }
}
