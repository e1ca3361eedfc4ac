import { readFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, it } from "vitest";

import { allowed, checkNumber, checkStops, type NumberName, sanitize, writeStops } from "../../src/state/settings.js";

/** Read `"name": (low, high, ...)` from the table of the Python packages. */
function pythonRanges(): Map<string, [number, number, boolean]> {
  const source = readFileSync(join(import.meta.dirname, "../../../../../dist/sampling.py"), "utf-8");
  const rows = source.matchAll(/^ {4}"(\w+)": \((-?[\d.]+), ([\d.*]+(?: - 1)?)(?:, (True|False))?\),$/gm);
  const value = (text: string): number => {
    const power = /^2\*\*(\d+) - 1$/.exec(text);
    return power ? 2 ** Number(power[1]) - 1 : Number(text);
  };
  return new Map([...rows].map(([, name, low, high, open]) => [name!, [value(low!), value(high!), open === "True"]]));
}

describe("numbers", () => {
  const names: NumberName[] = [
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty",
    "max_tokens",
  ]; // prettier-ignore

  it.each(names)("%s may be what Python allows", (name) => {
    const [low, high, open] = pythonRanges().get(name)!;
    expect(checkNumber(name, `${low}`).value).toBe(open ? undefined : low);
    expect(checkNumber(name, `${high}`).value).toBe(high);
    expect(checkNumber(name, `${low - 1}`).problem).toBe(`It must be ${allowed(name)}.`);
    expect(checkNumber(name, `${high + 1}`).problem).toBeDefined();
  });

  it("may be left out", () => expect(checkNumber("temperature", "  ")).toEqual({}));
  it("may have a decimal comma", () => expect(checkNumber("temperature", "0,7").value).toBe(0.7));
  it.each(["abc", "1e999", "NaN", "0x", "--1", "1.5.2"])("%s is no number", (text) =>
    expect(checkNumber("temperature", text).problem).toBe("It must be a number from 0 to 100."),
  );
  it("some are whole", () => expect(checkNumber("top_k", "1.5").problem).toBe("It must be a whole number from 0 up."));
  it.each(["1,000", "1.000", "0x10", "1e3", "-1"])("%s is no whole number", (text) =>
    expect(checkNumber("max_tokens", text).problem).toBeDefined(),
  );
  it("seeds stay exact", () => expect(checkNumber("seed", "9007199254740993").problem).toBeDefined());
});

describe("stop strings", () => {
  it("are lines", () => expect(checkStops("a\n\nb c\n").value).toEqual(["a", "b c"]));
  it("may hold line breaks", () => {
    const stops = ["\n\n", "a\\n", "\tb"];
    expect(checkStops(writeStops(stops)).value).toEqual(stops);
  });
  it("are few", () => expect(checkStops("a\n".repeat(17)).problem).toContain("16"));
  it("are short", () => expect(checkStops("a".repeat(1001)).problem).toContain("1000"));
});

describe("what was kept", () => {
  it("comes back where it is sound", () =>
    expect(sanitize({ system: "Be brief.", generation: { temperature: 0.5, stop: ["x"] } })).toEqual({
      system: "Be brief.",
      generation: { temperature: 0.5, stop: ["x"] },
    }));
  it("is left out where it is not", () =>
    expect(sanitize({ system: 3, generation: { temperature: "hot", top_p: 7, stop: [1, ""], evil: true } })).toEqual({
      system: "",
      generation: {},
    }));
});
