import { readFileSync } from "node:fs";

/** Results of the Python runtime, written by tests/web/make_fixtures.py. */
export function fixture<T>(name: string): T {
  const text = readFileSync(new URL(`../fixtures/${name}.json`, import.meta.url), "utf-8");
  return JSON.parse(text, (_, value: unknown) => (value === "-Infinity" ? -Infinity : value)) as T;
}
