import { ArgosyError } from "./errors.js";
import type { Chat, ChatStats, GenerateOptions, LoadOptions, Message, ModelInfo, Reply } from "./types.js";

/** A model in this thread, with its conversation. */
export class ChatModule implements Chat {
  declare readonly model: ModelInfo;
  declare readonly messages: readonly Message[];
  declare readonly last: Reply | null;

  private constructor() {}

  /** Loads the artefact at `url`. */
  static async load(url: string | URL, options: LoadOptions = {}): Promise<ChatModule> {
    throw new ArgosyError(`\`${url}\` cannot be loaded yet`, String(options));
  }

  /** The same, computed in `worker`, whose script calls `serveWorker()`: the page stays responsive. */
  static async inWorker(worker: Worker, url: string | URL, options: LoadOptions = {}): Promise<Chat> {
    throw new ArgosyError(`\`${url}\` cannot be loaded yet`, String([worker, options]));
  }

  /** Removes an artefact's files from the browser's cache. */
  static async deleteCache(url: string | URL): Promise<void> {
    throw new ArgosyError(`\`${url}\` cannot be loaded yet`);
  }

  declare generate: (prompt: string | readonly Message[], options?: GenerateOptions) => AsyncGenerator<string, void>;
  declare stop: () => void;
  declare resetChat: (systemPrompt?: string) => void;
  declare stats: () => ChatStats;
  declare unload: () => void;
}
