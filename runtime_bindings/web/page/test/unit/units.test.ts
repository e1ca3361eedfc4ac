import { expect, it } from "vitest";

import { counted, humanRate, humanSize, humanTime, timeLeft } from "../../src/state/units.js";
import { endingLine } from "../../src/view/thread.js";

it.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 kB"],
  [81_200_000, "81.2 MB"],
  [999_960_000, "1.0 GB"],
  [2.5e12, "2.5 TB"],
  [-1, "0 B"],
  [NaN, "0 B"],
])("%d bytes", (bytes, words) => expect(humanSize(bytes)).toBe(words));

it.each([
  [0.004, "4 ms"],
  [0.9996, "1.0 s"],
  [1.31, "1.3 s"],
  [59.96, "1 min 0 s"],
  [125, "2 min 5 s"],
  [3725, "1 h 2 min"],
])("%d seconds", (seconds, words) => expect(humanTime(seconds)).toBe(words));

it.each([
  [0, "1 s"],
  [11.2, "12 s"],
  [59.5, "1 min 0 s"],
])("%d seconds to wait", (seconds, words) => expect(timeLeft(seconds)).toBe(words));

it.each([
  [0.4234, "0.42"],
  [0.999, "1.0"],
  [27.94, "27.9"],
  [143.4, "143"],
])("%d tokens per second", (rate, words) => expect(humanRate(rate)).toBe(words));

it("counts", () => {
  expect(counted(1, "token")).toBe("1 token");
  expect(counted(1200, "token")).toBe("1,200 tokens");
});

it("an answer that is cut says at how many tokens, and where that can be changed", () => {
  const stats = { completionTokens: 1024, decodeTokensPerSecond: 9, timeToFirstToken: 1 };
  expect(endingLine("length", stats)).toBe("Reached the limit for an answer, 1,024 tokens; the settings change it");
  expect(endingLine("length")).toBe("Reached the limit for an answer");
  expect(endingLine("stopped", stats)).toBe("Stopped");
});
