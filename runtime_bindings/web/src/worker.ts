/** Serve a `ChatModule` in this worker to the page. */
import { ChatModule } from "./chat.js";
import { ArgosyError } from "./errors.js";
import { type FromWorker, sentError, type Snapshot, type ToWorker } from "./protocol.js";

/** The part of a worker's global scope that this module uses. */
export interface Scope {
  addEventListener(type: "message", listener: (event: MessageEvent<ToWorker>) => void): void;
  postMessage(message: FromWorker): void;
}

/** Serve a `ChatModule` to the page that started this worker; its script need call nothing else. */
export function serveWorker(scope: Scope = globalThis as unknown as Scope): void {
  const server = new Server(scope);
  scope.addEventListener("message", (event) => void server.receive(event.data));
}

class Server {
  private chat: ChatModule | null = null;
  private readonly ending = new AbortController();

  constructor(private readonly scope: Scope) {}

  async receive(message: ToWorker): Promise<void> {
    switch (message.kind) {
      case "load":
        return this.load(message);
      case "abort":
        return this.ending.abort();
      case "generate":
        return this.generate(message);
      case "stop":
        return this.chat?.stop();
      case "reset":
        this.chat?.resetChat(message.systemPrompt);
        if (this.chat) this.scope.postMessage({ kind: "reset", snapshot: snapshot(this.chat) });
        return;
      case "unload":
        return this.chat?.unload();
    }
  }

  private async load({ url, options }: Extract<ToWorker, { kind: "load" }>): Promise<void> {
    try {
      this.chat = await ChatModule.load(url, {
        ...options,
        signal: this.ending.signal,
        onProgress: (progress) => this.scope.postMessage({ kind: "progress", progress }),
      });
      this.scope.postMessage({ kind: "loaded", model: this.chat.model, snapshot: snapshot(this.chat) });
    } catch (error) {
      this.scope.postMessage({ kind: "unloadable", error: sentError(error) });
    }
  }

  private async generate({ id, prompt, options }: Extract<ToWorker, { kind: "generate" }>): Promise<void> {
    const { chat, scope } = this;
    if (!chat) return;
    let failure: unknown = null;
    try {
      for await (const text of chat.generate(prompt, options)) {
        scope.postMessage({ kind: "piece", id, text, stats: chat.stats() });
      }
    } catch (error) {
      failure = error ?? new ArgosyError("the answer failed");
    }
    const error = failure === null ? null : sentError(failure);
    scope.postMessage({ kind: "ended", id, snapshot: snapshot(chat), error });
  }
}

function snapshot(chat: ChatModule): Snapshot {
  return { messages: chat.messages, last: chat.last, stats: chat.stats() };
}
