import { afterEach, expect, test, vi } from "vitest";
import { Engine, type Request } from "../../src/engine.js";
import { modelDefaults } from "../../src/params.js";
import { Reader } from "../../src/records.js";
import { Sampler } from "../../src/sampler.js";
import { instantLibrary } from "./library.js";

afterEach(() => void vi.restoreAllMocks());

async function run(engine: Engine, request: Partial<Request> = {}): Promise<[number[], string]> {
  const config = { ...modelDefaults(new Reader({}, "test", "")), temperature: 0, max_tokens: 4 };
  const all = { prompt: [0, 1, 2, 0, 1], config, stopTokens: new Set<number>(), protect: 0, cancelled: () => false };
  const tokens: number[] = [];
  const answer = engine.generate({ ...all, ...request });
  for (;;) {
    const { done, value } = await answer.next();
    if (done) return [tokens, value];
    tokens.push(value.token);
  }
}

test("a prompt is computed in chunks, and only where the cache lacks it", async () => {
  const { library, passes } = instantLibrary();
  const engine = new Engine(library, {} as never);
  expect(await run(engine)).toEqual([[1, 1, 1, 1], "length"]);
  expect(passes).toEqual([4, 1, 1, 1, 1]);
  expect(engine.stats).toMatchObject({ prefillTokens: 5, decodeTokens: 3, completionTokens: 4, reusedTokens: 0 });
  await run(engine);
  expect(engine.stats).toMatchObject({ prefillTokens: 1, reusedTokens: 4 });
});

test("the speed is that of whole tokens, choosing them included", async () => {
  const engine = new Engine(instantLibrary().library, {} as never);
  vi.spyOn(Sampler.prototype, "sample").mockImplementation(() => {
    for (const until = performance.now() + 5; performance.now() < until; );
    return { token: 1, logprob: null };
  });
  await run(engine);
  expect(engine.stats.decodeSeconds).toBeGreaterThanOrEqual(0.015);
  expect(engine.stats.firstTokenSeconds).toBeGreaterThanOrEqual(0.005);
});

test("an answer ends where it is cancelled, also between the chunks of its prompt", async () => {
  const { library, passes } = instantLibrary();
  const engine = new Engine(library, {} as never);
  expect(await run(engine, { cancelled: () => passes.length === 1 })).toEqual([[], "cancelled"]);
  expect(engine.contextUsed).toBe(4);
  expect(await run(engine)).toEqual([[1, 1, 1, 1], "length"]);
});
