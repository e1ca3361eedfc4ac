import { describe, expect, test } from "vitest";
import { Bans } from "../../src/bans.js";
import { Reader } from "../../src/records.js";
import { DEFAULTS, modelDefaults, resolve } from "../../src/params.js";
import { Random } from "../../src/random.js";
import { adjust, Sampler, truncate } from "../../src/sampler.js";
import { heaviest, largest, leaders } from "../../src/selection.js";
import type { GenerateOptions } from "../../src/types.js";
import { fixture } from "./fixtures.js";

interface Case {
  params: GenerateOptions;
  history: number[];
  changed: Record<string, number>;
  left: number[] | null;
  tokens: number[];
  logprob: { token: number; logprob: number; top: [number, number][] } | null;
}

const shapes = fixture<{ name: string; logits: number[]; cases: Case[] }[]>("sampler");
const neutral = modelDefaults(new Reader({}, "test", ""));

test("the defaults are Python's", () => expect([DEFAULTS]).toEqual(fixture("defaults")));

test("the generator is numpy's", () => {
  for (const { seed, draws } of fixture<{ seed: string; draws: number[] }[]>("random")) {
    const random = new Random(BigInt(seed));
    expect(draws.map(() => random.next())).toEqual(draws);
  }
});

test("without a seed, draws differ", () => {
  expect(new Random(null).next()).not.toBe(new Random(null).next());
});

for (const { name, logits: values, cases } of shapes) {
  describe(`logits: ${name}`, () => {
    const logits = Float32Array.from(values);
    test.each(cases.map((recorded) => [JSON.stringify(recorded.params), recorded] as const))("%s", (_, recorded) => {
      const params = resolve(recorded.params, neutral);
      const adjusted = adjust(logits, params, recorded.history, new Bans(params).ids(recorded.history));
      const expected = logits.slice();
      for (const [id, value] of Object.entries(recorded.changed)) expected[Number(id)] = value;
      adjusted.forEach((value, id) => {
        if (value !== expected[id]) expect(value).toBeCloseTo(expected[id] as number, 5);
      });
      const { ids } = truncate(adjusted, params);
      expect(ids && ids.length < logits.length ? [...ids] : null).toEqual(recorded.left);
      const sampler = new Sampler(params);
      const samples = recorded.tokens.map(() => sampler.sample(logits, recorded.history));
      expect(samples.map((sample) => sample.token)).toEqual(recorded.tokens);
      const logprob = samples[0]?.logprob ?? null;
      expect(logprob === null).toBe(recorded.logprob === null);
      if (logprob && recorded.logprob) {
        expect(logprob.token).toBe(recorded.logprob.token);
        expect(logprob.logprob).toBeCloseTo(recorded.logprob.logprob, 5);
        expect(logprob.top.map(([id]) => id)).toEqual(recorded.logprob.top.map(([id]) => id));
      }
    });
  });
}

test("absurd settings choose a token and do not blame the weights", () => {
  const logits = Float32Array.of(5, 4, -1, 2, 3);
  for (const [settings, token] of [
    [{ repetition_penalty: 1e-300 }, 0],
    [{ repetition_penalty: 1e-45 }, 0],
    [{ logit_bias: { 3: 1e300 } }, 3],
    [{ logit_bias: { 3: 3e38 }, repetition_penalty: 0.5 }, 3],
  ] as const) {
    const params = { ...DEFAULTS, temperature: 0, ...settings };
    expect(new Sampler(params).sample(logits, [0, 2, 3]).token).toBe(token);
  }
});

test("the heaviest run is the one that sorting everything finds", () => {
  const random = new Random(5);
  for (const size of [1, 3, 511, 513, 5000]) {
    for (const round of [0.001, 1]) {
      const scores = Float32Array.from({ length: size }, () => Math.round((random.next() * 8 - 4) / round) * round);
      const weights = scores.map((score) => Math.exp(score));
      const order = Array.from(scores.keys()).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
      for (const share of [0.01, 0.5, 0.999]) {
        const mass = weights.reduce((sum, weight) => sum + weight, 0) * share;
        const run: number[] = [];
        for (let held = 0; held < mass && run.length < size; held += weights[run.at(-1) as number] as number) {
          run.push(order[run.length] as number);
        }
        expect([...heaviest(scores, weights, mass)]).toEqual(run.sort((a, b) => a - b));
        const count = Math.max(1, Math.floor(size * share));
        expect([...largest(scores, count)]).toEqual(order.slice(0, count).sort((a, b) => a - b));
        expect(leaders(scores, count)).toEqual(order.slice(0, count));
      }
    }
  }
});

test("a ban for the first token ends with it, even if a context that slides has that length again", () => {
  const bans = new Bans({ ...DEFAULTS, begin_suppress_tokens: [4], suppress_tokens: [2] });
  const banned = [[1, 2], [1, 2], [1, 2, 3], [1, 2]].map((history) => [...bans.ids(history)]);
  expect(banned).toEqual([[2, 4], [2, 4], [2], [2]]);
});

test("what the makers recommend is read from the chat config", () => {
  const read = (values: Record<string, unknown>) => modelDefaults(new Reader(values, "test", ""));
  expect(read({ top_k: 0, temperature: 0.6 })).toEqual({ ...DEFAULTS, temperature: 0.6, top_p: 1, min_p: 0 });
  expect(read({ repetition_penalty: 1.1 })).toEqual({ ...DEFAULTS, repetition_penalty: 1.1, repeat_last_n: -1 });
  expect(read({ repetition_penalty: 1.1, repeat_last_n: 9 }).repeat_last_n).toBe(9);
  const more = { stop: ["x"], bad_words_ids: [[3, 4]], suppress_tokens: [1], no_repeat_ngram_size: 3, max_tokens: 7 };
  expect(read(more)).toEqual({ ...DEFAULTS, ...more });
  expect(() => read({ suppress_tokens: "all" })).toThrow("`suppress_tokens=all` is not allowed");
});

test("a single stop string is a list of one", () => {
  expect(resolve({ stop: "a" }, DEFAULTS).stop).toEqual(["a"]);
});

test("logits without a finite number are refused", () => {
  for (const bad of [NaN, -Infinity]) {
    for (const temperature of [0, 1]) {
      const sampler = new Sampler({ ...neutral, temperature });
      expect(() => sampler.sample(new Float32Array(5).fill(bad), [])).toThrow("no finite number");
    }
  }
});

test.each([
  [{ temperature: -1 }, "`temperature=-1` is not allowed, it must be a number from 0 to 100"],
  [{ top_p: 0 }, "`top_p=0` is not allowed, it must be a number above 0 and up to 1"],
  [{ top_k: 1.5 }, "`top_k=1.5` is not allowed, it must be a whole number from 0 to 2147483647"],
  [{ max_tokens: 0 }, "`max_tokens=0` is not allowed, it must be a whole number from 1 to 2147483647"],
  [{ seed: -1 }, "`seed=-1` is not allowed"],
  [{ stop: [""] }, "`stop=` is not allowed, it must be strings of 1 to 1000 characters"],
  [{ logit_bias: { 3: Infinity } }, "`logit_bias=Infinity` is not allowed"],
  [{ suppress_tokens: [-1] }, "`suppress_tokens=-1` is not allowed, it must be made of token ids"],
  [{ bad_words_ids: [[]] }, "none of them empty"],
  [{ no_repeat_ngram_size: -1 }, "a whole number from 0"],
  [{ top_logprobs: 2 }, "0 unless `logprobs` is true"],
  [{ temprature: 1 } as GenerateOptions, "`temprature` is not a generation setting"],
] as [GenerateOptions, string][])("%j is refused", (options, message) => {
  expect(() => resolve(options, neutral)).toThrow(message);
});
