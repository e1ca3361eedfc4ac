/** Run the whole page in jsdom, with a model whose answers a test provides. */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { type Engine, loadEngine } from "#engine";
import type { Chat, GenerateOptions, Message } from "@argosy/web";
import { vi } from "vitest";

import { DEFAULTS } from "../../../src/params.js";
import { App } from "../../src/app.js";

const HTML = readFileSync(join(import.meta.dirname, "../../index.html"), "utf-8");

export const get = <T extends HTMLElement>(id: string): T => document.querySelector<T>(`[data-testid="${id}"]`)!;
export const state = (): string | undefined => get("status").dataset["state"];
export const answers = (): string[] =>
  [...document.querySelectorAll('[data-testid="answer"]')].map((answer) => answer.textContent.trim());

/** Yields an answer's pieces; if it throws, the answer fails. */
export type Answer = (prompt: string | readonly Message[], options?: GenerateOptions) => AsyncGenerator<string, void>;

export const says = (...pieces: string[]): Answer =>
  async function* () {
    yield* pieces;
  };

export const fails = (error: unknown): Answer =>
  async function* () {
    throw error;
  };

/** Open the page; loads and answers are taken from their lists in turn, and the last one repeats. */
export async function visit({ answers, loads = [async () => {}], touch = false }: {
  answers: Answer[];
  loads?: (() => Promise<void>)[];
  touch?: boolean;
}) {
  document.documentElement.innerHTML = new DOMParser().parseFromString(HTML, "text/html").documentElement.innerHTML;
  vi.stubGlobal("ResizeObserver", class { observe(): void {} });
  vi.stubGlobal("matchMedia", () => ({ matches: !touch }));
  HTMLDialogElement.prototype.showModal = function () {
    this.open = true;
  };
  const [said, loaded] = [[...answers], [...loads]];
  vi.mocked(loadEngine).mockReset().mockImplementation(async () => {
    await (loaded.length > 1 ? loaded.shift()! : loaded[0]!)();
    return { chat: chat(said), close: () => {} } satisfies Engine;
  });
  const app = new App(new URL("http://a.example/artefact/"));
  const ready = app.load();
  return { ready, loads: vi.mocked(loadEngine) };
}

function chat(answers: Answer[]): Chat {
  const stats = {
    promptTokens: 1, reusedTokens: 0, prefillTokens: 1, completionTokens: 1, prefillTokensPerSecond: 1,
    decodeTokensPerSecond: 1, timeToFirstToken: 1, contextUsed: 2, contextSize: 64, loadSeconds: 1, shaderSeconds: 1,
    weightBytes: 1, kvBytes: 1,
  }; // prettier-ignore
  const model = {
    name: "tiny", modelType: "llama", quantization: "q0f32", contextWindowSize: 64, vocabSize: 10, downloadBytes: 1,
    kept: false, adapter: "none", completesOnly: false, defaults: DEFAULTS,
  }; // prettier-ignore
  return {
    model,
    messages: [],
    last: { text: "", finishReason: "stop", tokens: [], logprobs: [] },
    generate: (prompt, options) => (answers.length > 1 ? answers.shift()! : answers[0]!)(prompt, options),
    stop: () => {},
    resetChat: () => {},
    stats: () => stats,
    unload: () => {},
  };
}

/** Type `text` and send it. */
export async function ask(text: string): Promise<void> {
  get<HTMLTextAreaElement>("input").value = text;
  document.querySelector("form")!.requestSubmit();
  await vi.waitFor(() => {
    if (state() === "generating") throw new Error("it still answers");
  });
}
