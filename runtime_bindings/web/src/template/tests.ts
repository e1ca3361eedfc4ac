/** Jinja's tests: `value is name`. */
import { type Budget, isContainer } from "./budget.js";
import { compared } from "./methods.js";
import { Callable, isNumber, Lazy, numberOf, Real, textOf, typeName, Undefined, type Value } from "./values.js";

type Test = (budget: Budget, value: Value, args: Value[]) => boolean;

export function applyTest(budget: Budget, name: string, value: Value, args: Value[]): boolean {
  const test = Object.hasOwn(TESTS, name) ? TESTS[name] : undefined;
  if (!test) throw new Error(`there is no test named \`${name}\``);
  budget.spend(2);
  return test(budget, value, args);
}

export function isTest(name: string): boolean {
  return Object.hasOwn(TESTS, name);
}

function comparison(operator: string): Test {
  return (budget, value, [other = null]) => compared(budget, operator, value, other);
}

function remainder(value: Value, divisor: Value): number {
  if (!isNumber(value) || !isNumber(divisor)) throw new Error(`a value of type ${typeName(value)} is not a number`);
  const [a, b] = [numberOf(value), numberOf(divisor)];
  if (b === 0) throw new Error("it divides by zero");
  return a - b * Math.floor(a / b);
}

function cased(pattern: RegExp, other: RegExp): Test {
  return (budget, value) => {
    const text = budget.text(value, textOf);
    budget.spendCharacters(text.length, 4);
    return pattern.test(text) && !other.test(text);
  };
}

const TESTS: Record<string, Test> = {
  boolean: (_, value) => typeof value === "boolean",
  callable: (_, value) => value instanceof Callable,
  defined: (_, value) => !(value instanceof Undefined),
  undefined: (_, value) => value instanceof Undefined,
  divisibleby: (_, value, [divisor = null]) => remainder(value, divisor) === 0,
  even: (_, value) => remainder(value, 2) === 0,
  odd: (_, value) => remainder(value, 2) === 1,
  escaped: () => false,
  false: (_, value) => value === false,
  true: (_, value) => value === true,
  float: (_, value) => value instanceof Real,
  integer: (_, value) => typeof value === "number",
  iterable: (_, value) => typeof value === "string" || isContainer(value) || value instanceof Lazy || value instanceof Undefined,
  lower: cased(/\p{Ll}/u, /[\p{Lu}\p{Lt}]/u),
  upper: cased(/\p{Lu}/u, /[\p{Ll}\p{Lt}]/u),
  mapping: (_, value) => value instanceof Map,
  none: (_, value) => value === null,
  number: (_, value) => isNumber(value),
  sameas: (_, value, [other = null]) => value === other,
  sequence: (_, value) => typeof value === "string" || isContainer(value) || value instanceof Undefined,
  string: (_, value) => typeof value === "string",
  in: comparison("in"),
  "==": comparison("=="),
  eq: comparison("=="),
  equalto: comparison("=="),
  "!=": comparison("!="),
  ne: comparison("!="),
  ">": comparison(">"),
  gt: comparison(">"),
  greaterthan: comparison(">"),
  ">=": comparison(">="),
  ge: comparison(">="),
  "<": comparison("<"),
  lt: comparison("<"),
  lessthan: comparison("<"),
  "<=": comparison("<="),
  le: comparison("<="),
};

