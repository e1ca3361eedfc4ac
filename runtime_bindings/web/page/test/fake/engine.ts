/**
 * Replace the model while the page itself is tested (`vite build --mode fake`); never part of the shipped page.
 * The URL's query controls it: `?load=900` and `?piece=12` (milliseconds for the load and for a piece),
 * `?error=no-webgpu`, and `?full` for a browser without room for it.
 */

import { ArgosyError, type Chat, type ChatStats, type GenerationConfig, type Reply } from "@argosy/web";

import { DEFAULTS as PLAIN } from "../../../src/params.js";
import type * as Real from "../../src/engine.js";

export type Engine = Real.Engine;

const query = new URLSearchParams(location.search);
const DEFAULTS: GenerationConfig = { ...PLAIN, temperature: 0.7, top_p: 0.9, repetition_penalty: 1.05 };
const ERRORS: Record<string, ArgosyError> = {
  "no-webgpu": new ArgosyError("this browser has no WebGPU", "use a current Chrome, Edge, Firefox or Safari"),
};
const ANSWER = `The capital of France is **Paris**. It lies on the *Seine*, and has about two million inhabitants.

## A few facts

| What | Figure | Since |
| --- | ---: | --- |
| Inhabitants | 2.1 million | 2020 |
| Area | 105 km² | 1860 |

1. The [Louvre](https://www.louvre.fr) is the most visited museum of the world.
2. \`Paris\` is also a town in Texas:
   - smaller,
   - and warmer.

\`\`\`python
def capital(country: str) -> str:
    """The capital of \`country\`, or a KeyError if it is not one of the few countries that this table knows about."""
    return {"France": "Paris", "Italy": "Rome"}[country]
\`\`\`

> Paris is always a good idea.

<script>alert("not run")</script> ![not fetched](https://example.com/a.png)
`;

/** The page's last request, for tests. */
const seen: { messages?: unknown; options?: unknown; deleted?: boolean } = {};
Object.assign(window, { seen });

export const forgetModel: typeof Real.forgetModel = async () => {
  seen.deleted = true;
};

export const loadEngine: typeof Real.loadEngine = async (_url, onProgress) => {
  const error = ERRORS[query.get("error") ?? ""];
  const milliseconds = Number(query.get("load") ?? 300);
  const steps = 30;
  onProgress({ stage: "library", loaded: 812_000, total: 812_000 });
  for (let step = 1; step <= steps; step++) {
    await pause(milliseconds / steps);
    if (error && step === 5) {
      query.delete("error");
      throw error;
    }
    const loaded = Math.round((270_800_000 * step) / steps);
    onProgress({ stage: "weights", loaded, total: 270_800_000, bytesPerSecond: 12_340_000 });
    onProgress({ stage: "shaders", loaded: step * 2, total: 2 * steps });
  }
  onProgress({ stage: "tokenizer", loaded: 2_100_000, total: 2_100_000 });
  return { chat: fakeChat(), close: () => {} };
};

function fakeChat(): Chat {
  let stopped = false;
  let last: Reply | null = null;
  let stats: ChatStats = {
    promptTokens: 0, reusedTokens: 0, prefillTokens: 0, completionTokens: 0, prefillTokensPerSecond: 0,
    decodeTokensPerSecond: 0, timeToFirstToken: 0, contextUsed: 0, contextSize: 8192, loadSeconds: 3.2,
    shaderSeconds: 1.1, weightBytes: 270_800_000, kvBytes: 94_400_000,
  }; // prettier-ignore
  return {
    model: {
      name: "smollm2-135m-q4f16_1", modelType: "llama", quantization: "q4f16_1", contextWindowSize: 8192,
      vocabSize: 49152, downloadBytes: 81_200_000, kept: !query.has("full"), adapter: "SwiftShader", completesOnly: false,
      defaults: DEFAULTS,
    }, // prettier-ignore
    messages: [],
    get last() {
      return last;
    },
    async *generate(messages, options) {
      Object.assign(seen, { messages, options });
      stopped = false;
      const begun = performance.now();
      await pause(Number(query.get("first") ?? 200));
      if (query.get("error") === "generate") {
        query.delete("error");
        throw new ArgosyError("the browser took the GPU away", "reload the page", true);
      }
      const first = performance.now();
      let count = 0;
      for (const piece of ANSWER.match(/\s*\S+/g) ?? []) {
        if (stopped) break;
        await pause(Number(query.get("piece") ?? 10));
        count += 1;
        const seconds = (performance.now() - first) / 1000;
        stats = {
          ...stats, promptTokens: 40, completionTokens: count, decodeTokensPerSecond: (count - 1) / seconds,
          timeToFirstToken: (first - begun) / 1000, contextUsed: 40 + count,
        }; // prettier-ignore
        yield piece;
      }
      last = { text: ANSWER, finishReason: stopped ? "cancelled" : "stop", tokens: [], logprobs: [] };
    },
    stop: () => {
      stopped = true;
    },
    resetChat: () => {},
    stats: () => stats,
    unload: () => {},
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
