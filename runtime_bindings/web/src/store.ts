/** Files of artefacts go into the browser's Cache Storage, under their SHA-256, and come out of it again. */

const NAME = "argosy-artefacts";
/** Cache Storage takes http URLs as keys; nothing is ever fetched from this one. */
const KEYS = "https://artefacts.argosy.invalid/";

/** What keeps files between visits. Without Cache Storage, or with `enabled` false, it keeps nothing. */
export class FileStore {
  /** Whether there was no room for a file. */
  full = false;

  private constructor(private readonly cache: Cache | null) {}

  static async open(enabled: boolean): Promise<FileStore> {
    if (!enabled || typeof caches === "undefined") return new FileStore(null);
    try {
      return new FileStore(await caches.open(NAME));
    } catch {
      return new FileStore(null); // private windows of some browsers refuse
    }
  }

  get keeps(): boolean {
    return this.cache !== null;
  }

  /** A file's bytes; null where they are not kept, or are not as many as they should be. */
  async file(sha256: string, bytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const data = await this.read(fileKey(sha256));
    if (!data || data.length === bytes) return data;
    await this.drop(sha256);
    return null;
  }

  /** Keeps a whole file that was checked. Where the browser has no room for it, the file is fetched again next time. */
  async keep(sha256: string, data: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.cache?.put(fileKey(sha256), new Response(data, { headers: { "Content-Length": `${data.length}` } }));
    } catch (error) {
      this.full = true;
      console.warn(`a file of ${data.length} bytes was not kept in the browser's cache: ${error}`);
    }
  }

  async drop(sha256: string): Promise<void> {
    await this.cache?.delete(fileKey(sha256)).catch(() => false); // what is spoilt is overwritten, too
  }

  /** The manifest that was last seen at `place`, for visits without a network. */
  list(place: URL): Promise<Uint8Array | null> {
    return this.read(listKey(place));
  }

  /** Keeps the manifest of `place`. Files that only its predecessor named are removed: they belong to an older build. */
  async keepList(place: URL, data: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.cache) return;
    const before = await this.list(place);
    try {
      await this.cache.put(listKey(place), new Response(data));
      if (before) await this.dropAll(digests(before), await this.named());
    } catch {
      // No room: without a network there will be nothing.
    }
  }

  /** Removes the manifest of `place` and its files, except those that another manifest names too. */
  async forget(place: URL): Promise<void> {
    const before = await this.list(place);
    await this.cache?.delete(listKey(place));
    if (before) await this.dropAll(digests(before), await this.named());
  }

  /** What is kept under `key`; null where there is nothing, or nothing that the browser can read any more. */
  private async read(key: string): Promise<Uint8Array<ArrayBuffer> | null> {
    try {
      const found = await this.cache?.match(key);
      return found ? new Uint8Array(await found.arrayBuffer()) : null;
    } catch (error) {
      console.warn(`a file in the browser's cache cannot be read: ${error}`);
      return null;
    }
  }

  private async dropAll(files: Set<string>, except: Set<string>): Promise<void> {
    for (const sha256 of files) if (!except.has(sha256)) await this.drop(sha256);
  }

  /** Digests that any kept manifest names. */
  private async named(): Promise<Set<string>> {
    const all = new Set<string>();
    for (const request of (await this.cache?.keys()) ?? []) {
      if (!request.url.startsWith(`${KEYS}list`)) continue;
      const found = await this.cache?.match(request);
      if (found) digests(new Uint8Array(await found.arrayBuffer())).forEach((sha256) => all.add(sha256));
    }
    return all;
  }
}

function fileKey(sha256: string): string {
  return `${KEYS}file/${sha256}`;
}

function listKey(place: URL): string {
  return `${KEYS}list?of=${encodeURIComponent(place.href)}`;
}

/** The digests in a manifest. */
function digests(manifest: Uint8Array): Set<string> {
  return new Set(new TextDecoder().decode(manifest).match(/(?<=")[0-9a-f]{64}(?=")/g) ?? []);
}
