import { expect, test } from "vitest";
import { LoopDetector } from "../../src/loops.js";
import { fixture } from "./fixtures.js";

/** The number of characters after which Python sees a loop, or null. */
const cases = fixture<{ text: string; step: number; seen: number | null; found: string | null }[]>("loops");

test.each(cases)("%#: a loop is seen where Python sees it", ({ text, step, seen, found }) => {
  const detector = new LoopDetector();
  let end = 0;
  while (end < text.length && !detector.add(text.slice(end, end + step))) end += step;
  expect(end < text.length ? end + step : null).toBe(seen);
  expect(detector.found).toBe(found);
});
