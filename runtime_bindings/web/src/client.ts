/** Control a `ChatModule` that runs in a worker, through the same interface. */
import { ArgosyError } from "./errors.js";
import { type FromWorker, receivedError, type Snapshot, type ToWorker } from "./protocol.js";
import type { Chat, ChatStats, GenerateOptions, LoadOptions, Message, ModelInfo, Reply } from "./types.js";

type Loaded = Extract<FromWorker, { kind: "loaded" }>;

/** Load the artefact at `url` in `worker`. */
export async function chatInWorker(worker: Worker, url: URL, options: LoadOptions): Promise<Chat> {
  const { onProgress, signal, ...sent } = options;
  signal?.throwIfAborted();
  const send = (message: ToWorker): void => worker.postMessage(message);
  const loaded = await new Promise<Loaded>((resolve, reject) => {
    const finish = (settle: () => void): void => {
      worker.removeEventListener("message", receive);
      worker.removeEventListener("error", fail);
      signal?.removeEventListener("abort", abort);
      settle();
    };
    const receive = ({ data }: MessageEvent<FromWorker>): void => {
      if (data.kind === "progress") onProgress?.(data.progress);
      else if (data.kind === "loaded") finish(() => resolve(data));
      else if (data.kind === "unloadable") finish(() => reject(receivedError(data.error)));
    };
    const fail = (event: ErrorEvent): void => finish(() => reject(brokenWorker(event)));
    const abort = (): void => {
      send({ kind: "abort" });
      finish(() => reject(signal?.reason as Error));
    };
    worker.addEventListener("message", receive);
    worker.addEventListener("error", fail);
    signal?.addEventListener("abort", abort);
    send({ kind: "load", url: url.href, options: sent });
  });
  return new ChatInWorker(worker, loaded.model, loaded.snapshot);
}

class ChatInWorker implements Chat {
  private snapshot: Snapshot;
  private running: Running | null = null;
  private next = 0;
  private unloaded = false;

  constructor(
    private readonly worker: Worker,
    readonly model: ModelInfo,
    first: Snapshot,
  ) {
    this.snapshot = first;
    worker.addEventListener("message", (event: MessageEvent<FromWorker>) => this.receive(event.data));
    worker.addEventListener("error", (event) => this.running?.end(brokenWorker(event)));
  }

  get messages(): readonly Message[] {
    return this.snapshot.messages;
  }

  get last(): Reply | null {
    return this.snapshot.last;
  }

  async *generate(
    prompt: string | readonly Message[],
    options: GenerateOptions = {},
  ): AsyncGenerator<string, void, undefined> {
    if (this.unloaded) throw new ArgosyError("the model was unloaded", "load it again");
    if (this.running) {
      const hint = "wait until it ends, or call `stop()` and let its loop finish";
      throw new ArgosyError("this model is generating another answer", hint);
    }
    const { signal, ...sent } = options;
    const running = (this.running = new Running(this.next++));
    const stop = (): void => this.stop();
    signal?.addEventListener("abort", stop);
    try {
      this.send({ kind: "generate", id: running.id, prompt, options: sent });
      if (signal?.aborted) this.stop();
      yield* running.pieces();
    } catch (error) {
      running.end(null);
      throw error;
    } finally {
      if (!running.ended) this.stop();
      await running.over;
      signal?.removeEventListener("abort", stop);
      this.running = null;
    }
  }

  stop(): void {
    this.send({ kind: "stop" });
  }

  resetChat(systemPrompt?: string): void {
    if (this.model.completesOnly && systemPrompt) {
      throw new ArgosyError(`\`${this.model.name}\` has no chat template, so it cannot take a system prompt`);
    }
    this.snapshot = { ...this.snapshot, messages: [], last: null };
    this.send({ kind: "reset", systemPrompt });
  }

  stats(): ChatStats {
    return this.snapshot.stats;
  }

  unload(): void {
    this.unloaded = true;
    this.send({ kind: "unload" });
  }

  private receive(message: FromWorker): void {
    const { running } = this;
    if (message.kind === "reset") this.snapshot = message.snapshot;
    if (message.kind === "piece" && running?.id === message.id) {
      this.snapshot = { ...this.snapshot, stats: message.stats };
      running.add(message.text);
    }
    if (message.kind === "ended") {
      this.snapshot = message.snapshot;
      if (running?.id === message.id) running.end(message.error && receivedError(message.error));
    }
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }
}

/** An answer that the worker is sending. */
class Running {
  ended = false;
  readonly over: Promise<void>;
  private error: ArgosyError | null = null;
  private waiting: string[] = [];
  private wake: () => void = () => undefined;
  private finish: () => void = () => undefined;

  constructor(readonly id: number) {
    this.over = new Promise((resolve) => (this.finish = resolve));
  }

  add(text: string): void {
    this.waiting.push(text);
    this.wake();
  }

  end(error: ArgosyError | null): void {
    this.ended = true;
    this.error ??= error;
    this.finish();
    this.wake();
  }

  async *pieces(): AsyncGenerator<string, void, undefined> {
    for (;;) {
      while (this.waiting.length) yield this.waiting.shift() as string;
      if (this.error) throw this.error;
      if (this.ended) return;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}

function brokenWorker(event: ErrorEvent): ArgosyError {
  const reason = event.message || "its script could not be loaded";
  return new ArgosyError(`the model's worker failed: ${reason}`, "reload the page", true);
}
