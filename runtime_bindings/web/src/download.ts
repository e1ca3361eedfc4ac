/** Download files and check their size and SHA-256. */
import { ArgosyError, oneLine, orTooLarge } from "./errors.js";
import type { FileStore } from "./store.js";

/** A file of an artefact, with its size and digest in the manifest. */
export interface Source {
  url: URL;
  file: string;
  bytes: number;
  sha256: string;
}

export interface FetchOptions {
  /** Called with the number of bytes that arrived; `cached` if they came from the store. */
  onBytes?: ((count: number, cached: boolean) => void) | undefined;
  signal?: AbortSignal | undefined;
}

const AGAIN = "reload the page; complete files are not downloaded again";
const ALTERED = "copy the whole artefact to the server again, then reload";

/** Return a file's bytes from `store` if they are sound there, or else download and store them. */
export async function fetchFile(
  source: Source,
  store: FileStore,
  { onBytes, signal }: FetchOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const kept = await store.file(source.sha256, source.bytes);
  if (kept) {
    if ((await sha256(kept)) === source.sha256) {
      onBytes?.(kept.length, true);
      return kept;
    }
    await store.drop(source.sha256);
  }
  let given = 0;
  const count = (bytes: number): void => {
    given += bytes;
    onBytes?.(bytes, false);
  };
  // A proxy may hold an older file of this name: on a mismatch, download once more and bypass caches.
  const first = store.keeps ? "no-store" : "default";
  let data = await download(source, first, count, signal);
  if ((await sha256(data)) !== source.sha256) {
    onBytes?.(-given, false);
    data = await download(source, "reload", count, signal);
    if ((await sha256(data)) !== source.sha256) {
      throw new ArgosyError(`\`${source.file}\` was altered: its digest is not the one in the manifest`, ALTERED);
    }
  }
  await store.keep(source.sha256, data);
  return data;
}

/** Read exactly `source.bytes` bytes from the response, reporting them as they arrive. */
async function download(
  source: Source,
  cache: RequestCache,
  count: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  let received = 0;
  try {
    const response = await fetch(source.url, { cache, ...(signal && { signal }) });
    if (!response.ok || !response.body) {
      const message = `\`${source.file}\` could not be downloaded: the server answered ${response.status}`;
      throw new ArgosyError(message, ALTERED);
    }
    const data = new Uint8Array(source.bytes);
    const reader = response.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      if (received + part.value.length > source.bytes) {
        await reader.cancel();
        const message = `\`${source.file}\` has more than the ${source.bytes} bytes in the manifest`;
        throw new ArgosyError(message, ALTERED);
      }
      data.set(part.value, received);
      received += part.value.length;
      count(part.value.length);
    }
    if (received < source.bytes) {
      const message = `the download of \`${source.file}\` was cut off: ${received} of ${source.bytes} bytes`;
      throw new ArgosyError(message, AGAIN);
    }
    return data;
  } catch (thrown) {
    signal?.throwIfAborted();
    const error = orTooLarge(thrown, `\`${source.file}\``);
    if (error instanceof ArgosyError) throw error;
    if (received) {
      const message = `the download of \`${source.file}\` was cut off: ${received} of ${source.bytes} bytes`;
      throw new ArgosyError(message, AGAIN);
    }
    throw new ArgosyError(`\`${source.file}\` could not be downloaded: ${oneLine(error)}`, AGAIN);
  }
}

/** Encode in hexadecimal. */
export async function sha256(data: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Run `work` on every item, `width` at a time, and stop at the first error. */
export async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  let failed = false;
  const lane = async (): Promise<void> => {
    while (next < items.length && !failed) {
      const item = items[next++] as T;
      try {
        await work(item);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
}
