import { beforeEach, expect, test, vi } from "vitest";
import { ChatModule } from "../../src/chat.js";
import { chatInWorker } from "../../src/client.js";
import { ArgosyError } from "../../src/errors.js";
import type { FromWorker, ToWorker } from "../../src/protocol.js";
import type { Chat, LoadOptions, Message } from "../../src/types.js";
import { type Scope, serveWorker } from "../../src/worker.js";

/** A chat that answers with the question, word by word. */
class Echo {
  readonly model = { name: "echo", completesOnly: false };
  messages: Message[] = [];
  last: { text: string } | null = null;
  system: string | undefined = "";
  private stopped = false;

  async *generate(prompt: string): AsyncGenerator<string> {
    this.stopped = false;
    let text = "";
    try {
      for (const word of prompt.split(" ")) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (this.stopped) return;
        if (word === "fail") throw new ArgosyError("no", "never", true);
        text += word;
        yield word;
      }
    } finally {
      this.last = { text };
      this.messages = [{ role: "user", content: prompt }, { role: "assistant", content: text }];
    }
  }

  stop(): void {
    this.stopped = true;
  }

  resetChat(system?: string): void {
    this.messages = [];
    this.system = system;
  }

  stats(): object {
    return { completionTokens: this.last?.text.length ?? 0 };
  }

  unload(): void {}
}

/** A connected pair: the page's worker and the worker's global scope. */
class Wire extends EventTarget {
  private readonly listeners: ((event: MessageEvent<ToWorker>) => void)[] = [];
  readonly scope: Scope = {
    addEventListener: (_, listener) => void this.listeners.push(listener),
    postMessage: (message: FromWorker) =>
      void setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data: structuredClone(message) }))),
  };

  postMessage(message: ToWorker): void {
    const event = { data: structuredClone(message) } as MessageEvent<ToWorker>;
    setTimeout(() => this.listeners.forEach((listener) => listener(event)));
  }
}

let echo: Echo;
let load: (url: string, options: LoadOptions) => Promise<unknown>;

beforeEach(() => {
  echo = new Echo();
  load = async (_, { onProgress }) => {
    onProgress?.({ stage: "weights", loaded: 1, total: 2 });
    return echo;
  };
  vi.spyOn(ChatModule, "load").mockImplementation((url, options = {}) => load(String(url), options) as never);
});

function start(options: LoadOptions = {}): Promise<Chat> {
  const wire = new Wire();
  serveWorker(wire.scope);
  return chatInWorker(wire as unknown as Worker, new URL("http://a.example/"), options);
}

async function all(chat: Chat, prompt: string): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of chat.generate(prompt)) pieces.push(piece);
  return pieces;
}

test("pieces, stats and messages arrive", async () => {
  const seen: unknown[] = [];
  const chat = await start({ onProgress: (progress) => seen.push(progress) });
  expect(seen).toEqual([{ stage: "weights", loaded: 1, total: 2 }]);
  expect(chat.model.name).toBe("echo");
  expect(await all(chat, "a bc d")).toEqual(["a", "bc", "d"]);
  expect(chat.stats().completionTokens).toBe(4);
  expect(chat.messages.at(-1)).toEqual({ role: "assistant", content: "abcd" });
  expect(chat.last).toEqual({ text: "abcd" });
  chat.resetChat("be brief");
  expect(chat.messages).toEqual([]);
  expect(await all(chat, "e")).toEqual(["e"]);
  expect(echo.system).toBe("be brief");
});

test("an error of an answer arrives, and the next one works", async () => {
  const chat = await start();
  await expect(all(chat, "a fail")).rejects.toMatchObject({ name: "ArgosyError", message: "no", hint: "never", fatal: true });
  expect(await all(chat, "b")).toEqual(["b"]);
});

test("leaving the loop ends the answer in the worker", async () => {
  const chat = await start();
  for await (const piece of chat.generate("a b c d e f g h i j k l m n o p")) if (piece === "b") break;
  expect(echo.last?.text.length).toBeLessThan(16);
  expect(await all(chat, "z")).toEqual(["z"]);
});

test("a signal and stop() end the answer", async () => {
  const chat = await start();
  const ending = new AbortController();
  const pieces: string[] = [];
  for await (const piece of chat.generate("a b c d e f g h i j k l m n o p", { signal: ending.signal })) {
    pieces.push(piece);
    ending.abort();
  }
  expect(pieces.length).toBeLessThan(16);
});

test("two answers at once are refused", async () => {
  const chat = await start();
  const first = chat.generate("a b c");
  await first.next();
  await expect(all(chat, "d")).rejects.toThrow("this model is generating another answer");
  await first.return();
});

test("what cannot be sent is an error, and the next answer works", async () => {
  const chat = await start();
  const options = { template_variables: { a: () => 1 } };
  await expect(chat.generate("a", options).next()).rejects.toThrow();
  expect(await all(chat, "b")).toEqual(["b"]);
});

test("an error of loading arrives", async () => {
  load = async () => {
    throw new ArgosyError("this browser has no WebGPU", "use another");
  };
  await expect(start()).rejects.toMatchObject({ message: "this browser has no WebGPU", hint: "use another" });
});

test("loading can be given up", async () => {
  let ended = false;
  load = async (_, { signal }) => {
    await new Promise((resolve) => signal?.addEventListener("abort", resolve));
    ended = true;
    throw signal?.reason;
  };
  const ending = new AbortController();
  const loading = start({ signal: ending.signal });
  setTimeout(() => ending.abort(new Error("enough")), 5);
  await expect(loading).rejects.toThrow("enough");
  await vi.waitFor(() => expect(ended).toBe(true));
});
