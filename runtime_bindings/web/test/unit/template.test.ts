import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { LIMITS } from "../../src/template/limits.js";
import { ChatTemplate } from "../../src/template.js";
import type { Message } from "../../src/types.js";

interface Row {
  source: string;
  repeat?: [string, number];
  output?: string;
  refused?: true;
}

interface Table {
  messages: Message[];
  variables: Record<string, unknown>;
  templates: Row[];
}

const table = JSON.parse(readFileSync(new URL("../../../../tests/templates.json", import.meta.url), "utf8")) as Table;

/** Return the verdict on a template: the text that it writes, or null if it is refused. */
function verdict({ source, repeat }: Row): string | null {
  const whole = repeat ? source.replaceAll("@", () => repeat[0].repeat(repeat[1])) : source;
  try {
    return new ChatTemplate(whole).render(table.messages, table.variables);
  } catch (error) {
    expect(String(error)).toMatch(/the model's chat template (cannot be used|does something forbidden|refuses)/);
    return null;
  }
}

describe("the table of templates that Python has as well", () => {
  test.each(table.templates.map((row) => [row.source.slice(0, 100), row] as const))("%s", (_, row) => {
    const start = process.cpuUsage();
    expect(verdict(row)).toBe(row.output ?? null);
    const { user, system } = process.cpuUsage(start);
    expect(user + system).toBeLessThan(3_000_000); // microseconds; a third of it on an idle machine
  }, 20_000);
});

test("the limits are sane", () => {
  expect(LIMITS.integer).toBe(Number.MAX_SAFE_INTEGER);
});
