/** Read typed fields of JSON from the network; an error names the malformed field. */
import { ArgosyError } from "./errors.js";

export type Fields = Readonly<Record<string, unknown>>;

/** Reads typed fields of the JSON file `file`; `hint` tells how to make a correct one. */
export class Reader {
  constructor(
    readonly values: Fields,
    private readonly file: string,
    private readonly hint: string,
  ) {}

  text(name: string): string {
    const value = this.values[name];
    if (typeof value !== "string") throw this.wrong(name, "a text");
    return value;
  }

  count(name: string): number {
    const value = this.values[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw this.wrong(name, "a whole number");
    return value;
  }

  integer(name: string): number {
    const value = this.values[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value)) throw this.wrong(name, "a whole number");
    return value;
  }

  /** A number, or `otherwise` if the field is absent. */
  number(name: string, otherwise: number): number {
    const value = this.values[name] ?? otherwise;
    if (typeof value !== "number" || Number.isNaN(value)) throw this.wrong(name, "a number");
    return value;
  }

  /** The name of a file in the artefact, without a path. */
  fileName(name: string): string {
    const value = this.text(name);
    if (!isFileName(value)) throw this.wrong(name, "a plain file name");
    return value;
  }

  sha256(name: string): string {
    const value = this.text(name);
    if (!/^[0-9a-f]{64}$/.test(value)) throw this.wrong(name, "a SHA-256");
    return value;
  }

  texts(name: string): string[] {
    const value = this.values[name];
    if (!Array.isArray(value) || value.some((text) => typeof text !== "string")) throw this.wrong(name, "a list of strings");
    return value as string[];
  }

  counts(name: string): number[] {
    const value = this.values[name];
    const sound = Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
    if (!sound) throw this.wrong(name, "a list of whole numbers");
    return value as number[];
  }

  child(name: string): Reader {
    const value = this.values[name];
    if (!isObject(value)) throw this.wrong(name, "an object");
    return new Reader(value, this.file, this.hint);
  }

  children(name: string): Reader[] {
    const value = this.values[name];
    if (!Array.isArray(value) || !value.every(isObject)) throw this.wrong(name, "a list of objects");
    return value.map((item) => new Reader(item, this.file, this.hint));
  }

  /** The fields of an object, by name. */
  entries(name: string): [string, Reader][] {
    return Object.keys(this.child(name).values).map((key) => [key, this.child(name).child(key)]);
  }

  wrong(name: string, wanted: string): ArgosyError {
    return new ArgosyError(`\`${this.file}\` is malformed: \`${name}\` is not ${wanted}`, this.hint);
  }
}

export function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether `value` may name a file of an artefact: no path, not hidden. */
export function isFileName(value: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9._-]{0,199}$/.test(value);
}

/** Parse `text`, from `file`, as a JSON object. */
export function parsedText(text: string, file: string, hint: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ArgosyError(`\`${file}\` is not JSON`, hint);
  }
  if (!isObject(value)) throw new ArgosyError(`\`${file}\` is not a JSON object`, hint);
  return value;
}
