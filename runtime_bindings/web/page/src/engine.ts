/** Load the model in a worker. */

import type { Chat, LoadProgress } from "@argosy/web";

// Not imported from the package's index: the worker has the engine, and the page needs no second copy.
import { chatInWorker } from "../../src/client.js";
import { ArgosyError } from "../../src/errors.js";

/** A loaded model and its worker. */
export interface Engine {
  chat: Chat;
  /** Stop the worker at once and free everything. */
  close(): void;
}

/** Load the artefact at `url`. `onFailure` is called if the worker dies, also later. */
export async function loadEngine(
  url: URL,
  onProgress: (progress: LoadProgress) => void,
  onFailure: (error: unknown) => void,
): Promise<Engine> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "argosy" });
  const died = new Promise<never>((_, reject) => {
    worker.addEventListener("error", (event) => {
      event.preventDefault();
      const cause = event.message ? `: ${event.message}` : "";
      const error = new ArgosyError(`the model's worker stopped${cause}`, "try again, or reload the page");
      reject(error);
      onFailure(error);
    });
  });
  died.catch(() => {});
  try {
    const chat = await Promise.race([chatInWorker(worker, url, { onProgress }), died]);
    return { chat, close: () => worker.terminate() };
  } catch (error) {
    worker.terminate();
    throw error;
  }
}

/** Remove the files of the artefact at `url` from the browser's cache. */
export async function forgetModel(url: URL): Promise<void> {
  const { ChatModule } = await import("@argosy/web");
  await ChatModule.deleteCache(url);
}
