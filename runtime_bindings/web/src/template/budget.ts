/** Count what a template's rendering does, so that it ends within bounds of work and memory on every machine alike. */
import { ITEM, LIMITS } from "./limits.js";
import { ASTRAL, characters, Lazy, lengthOf, Real, Tuple, typeName, Undefined, type Value } from "./values.js";

/** The template exceeds its bounds of work or memory, or does what no chat template needs. */
export class LimitExceeded extends Error {}

/** The template called `raise_exception`: the model was not trained on such a conversation. */
export class Refusal extends Error {}

/** The work that a rendering has left, and the size that its values may have. */
export class Budget {
  calls = 0;
  /** The nesting of the value that was weighed last. */
  depth = 0;
  private work: number;
  private readonly valueLimit: number;

  constructor(inputWeight: number) {
    this.work = LIMITS.work + LIMITS.workPerInput * inputWeight;
    this.valueLimit = LIMITS.valueCharacters + LIMITS.valuePerInput * inputWeight;
  }

  spend(steps: number): void {
    this.work -= steps;
    if (!(this.work >= 0)) throw new LimitExceeded("it does too much");
  }

  /** Charge for `count` characters, of which each takes `cost` times as long as to copy it. */
  spendCharacters(count: number, cost = 1): void {
    this.spend(1 + Math.floor((count * cost) / LIMITS.charactersPerWork));
  }

  checkSize(size: number): void {
    if (!(size <= this.valueLimit)) throw new LimitExceeded("it builds a value that is too large");
  }

  /** Count the characters in `value` and in all that it holds, as often as it occurs, and charge for the walk. */
  weigh(value: Value): number {
    this.depth = 0;
    if (typeof value === "string") return value.length;
    if (!isContainer(value)) return ITEM;
    let total = 0;
    const stack: [Value[] | Map<Value, Value>, number][] = [[value, 1]];
    for (let next = stack.pop(); next; next = stack.pop()) {
      const [container, depth] = next;
      this.depth = Math.max(this.depth, depth);
      if (depth > LIMITS.valueNesting) throw new LimitExceeded("it nests values too deep");
      this.spend(1 + sizeOf(container));
      total += ITEM;
      for (const part of Array.isArray(container) ? container : [...container.keys(), ...container.values()]) {
        if (isContainer(part)) stack.push([part, depth + 1]);
        else total += ITEM + (typeof part === "string" ? part.length : 0);
      }
      this.checkSize(total);
    }
    return total;
  }

  /** Return a value's weight, and charge for reading it. */
  size(value: Value): number {
    const weight = this.weigh(value);
    this.spendCharacters(weight);
    return weight;
  }

  /** Return the items of a value, and charge for them. */
  iterated(value: Value): Value[] {
    if (typeof value === "string") {
      this.spend(value.length);
      return Array.from(value);
    }
    if (value instanceof Undefined) return [];
    if (value instanceof Lazy) {
      const items = value.take();
      this.spend(2 * items.length);
      return items;
    }
    if (!isContainer(value)) throw new Error(`a value of type ${typeName(value)} has no items`);
    this.spend(sizeOf(value));
    if (value instanceof Map) return [...value.keys()];
    return value instanceof Tuple ? Array.from(value) : value;
  }

  /** Return the result of an operation, after a check and a charge for its size. */
  admit<T extends Value>(value: T): T {
    if (typeof value === "string") {
      this.checkSize(value.length);
      this.spendCharacters(value.length);
    } else if (typeof value === "number") {
      if (!(Math.abs(value) <= LIMITS.integer)) throw new LimitExceeded("it computes an integer that is too large");
    } else if (isContainer(value)) {
      this.spend(1 + (sizeOf(value) >> 2));
      this.checkSize(sizeOf(value) * ITEM);
    }
    return value;
  }

  /** Return a value as the template writes it, with `write` for what is not text. */
  text(value: Value, write: (value: Value) => string): string {
    if (typeof value === "string") {
      this.spendCharacters(value.length);
      return value;
    }
    checkWritable(value);
    this.size(value);
    return this.admit(write(value));
  }

  joined(texts: readonly string[], separator = ""): string {
    const length = texts.reduce((sum, text) => sum + text.length, separator.length * texts.length);
    this.checkSize(length);
    return this.admit(texts.join(separator));
  }
}

export function isContainer(value: Value): value is Value[] | Map<Value, Value> {
  return Array.isArray(value) || value instanceof Map;
}

function sizeOf(container: Value[] | Map<Value, Value>): number {
  return Array.isArray(container) ? container.length : container.size;
}

/** Return a character of a text as Python counts them, which JavaScript has to look for. */
export function characterAt(budget: Budget, text: string, index: number): string | undefined {
  budget.spendCharacters(text.length);
  if (!ASTRAL.test(text)) return text.at(index);
  budget.spendCharacters(text.length, 8);
  return characters(text).at(index);
}

/** Refuse a value whose text would say nothing, or something about this program. */
export function checkWritable(value: Value): void {
  const plain = value === null || typeof value !== "object" || isContainer(value);
  if (!plain && !(value instanceof Real) && !(value instanceof Undefined)) {
    throw new LimitExceeded(`it writes a value of type ${typeName(value)}`);
  }
}

/** Count the characters of messages and variables, with `ITEM` for each value that is not text. */
export function weightOfInput(value: Value): number {
  let total = 0;
  const stack: Value[] = [value];
  for (let item = stack.pop(); item !== undefined; item = stack.pop()) {
    total += ITEM;
    if (typeof item === "string") total += lengthOf(item);
    else if (isContainer(item)) for (const part of Array.isArray(item) ? item : [...item.keys(), ...item.values()]) stack.push(part);
  }
  return total;
}
