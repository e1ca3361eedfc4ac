/** The messages between the page and the worker. */
import { ArgosyError } from "./errors.js";
import type { ChatStats, GenerateOptions, LoadOptions, LoadProgress, Message, ModelInfo, Reply } from "./types.js";

/** Options that can be posted: no callbacks, no signals. */
export type SentLoadOptions = Omit<LoadOptions, "onProgress" | "signal">;
export type SentGenerateOptions = Omit<GenerateOptions, "signal">;

/** The state that the client answers from, without asking the worker. */
export interface Snapshot {
  messages: readonly Message[];
  last: Reply | null;
  stats: ChatStats;
}

export type SentError = { message: string; hint: string; fatal: boolean };

export type ToWorker =
  | { kind: "load"; url: string; options: SentLoadOptions }
  | { kind: "abort" }
  | { kind: "generate"; id: number; prompt: string | readonly Message[]; options: SentGenerateOptions }
  | { kind: "stop" }
  | { kind: "reset"; systemPrompt: string | undefined }
  | { kind: "unload" };

export type FromWorker =
  | { kind: "progress"; progress: LoadProgress }
  | { kind: "loaded"; model: ModelInfo; snapshot: Snapshot }
  | { kind: "unloadable"; error: SentError }
  | { kind: "piece"; id: number; text: string; stats: ChatStats }
  | { kind: "ended"; id: number; snapshot: Snapshot; error: SentError | null }
  | { kind: "reset"; snapshot: Snapshot };

export function sentError(error: unknown): SentError {
  if (error instanceof ArgosyError) return { message: error.message, hint: error.hint, fatal: error.fatal };
  return { message: error instanceof Error ? error.message : String(error), hint: "", fatal: false };
}

export function receivedError({ message, hint, fatal }: SentError): ArgosyError {
  return new ArgosyError(message, hint, fatal);
}
