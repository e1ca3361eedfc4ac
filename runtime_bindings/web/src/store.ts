/** Keep artefact files in the browser's Cache Storage, by their SHA-256. */

const NAME = "argosy-artefacts";
/** Cache Storage takes http URLs as keys; nothing is ever fetched from this host. */
const KEYS = "https://artefacts.argosy.invalid/";

/** Keeps files between visits. Without Cache Storage, or with `enabled` false, it keeps nothing. */
export class FileStore {
  /** Whether a file did not fit. */
  full = false;

  private constructor(private readonly cache: Cache | null) {}

  static async open(enabled: boolean): Promise<FileStore> {
    if (!enabled || typeof caches === "undefined") return new FileStore(null);
    try {
      return new FileStore(await caches.open(NAME));
    } catch {
      return new FileStore(null); // some browsers refuse in private windows
    }
  }

  get keeps(): boolean {
    return this.cache !== null;
  }

  /** Return a file's bytes; null if it is not stored or has the wrong size. */
  async file(sha256: string, bytes: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const data = await this.read(fileKey(sha256));
    if (!data || data.length === bytes) return data;
    await this.drop(sha256);
    return null;
  }

  /** Store a checked file. If the browser has no room, it is downloaded again next time. */
  async keep(sha256: string, data: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.cache?.put(fileKey(sha256), new Response(data, { headers: { "Content-Length": `${data.length}` } }));
    } catch (error) {
      this.full = true;
      console.warn(`a file of ${data.length} bytes could not be stored in the browser's cache: ${error}`);
    }
  }

  async drop(sha256: string): Promise<void> {
    await this.cache?.delete(fileKey(sha256)).catch(() => false); // a damaged entry is overwritten anyway
  }

  /** Return the last manifest seen at `place`, for visits without a network. */
  list(place: URL): Promise<Uint8Array | null> {
    return this.read(listKey(place));
  }

  /** Store the manifest of `place`, and remove files that only its predecessor named: they are of an older build. */
  async keepList(place: URL, data: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.cache) return;
    const before = await this.list(place);
    try {
      await this.cache.put(listKey(place), new Response(data));
      if (before) await this.dropAll(digests(before), await this.named());
    } catch {
      // No room: the model will not load without a network.
    }
  }

  /** Remove the manifest of `place` and its files, except files that another manifest names. */
  async forget(place: URL): Promise<void> {
    const before = await this.list(place);
    await this.cache?.delete(listKey(place));
    if (before) await this.dropAll(digests(before), await this.named());
  }

  /** Return what is stored under `key`; null if there is nothing that the browser can read. */
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

  /** The digests that any stored manifest names. */
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

/** List the digests in a manifest. */
function digests(manifest: Uint8Array): Set<string> {
  return new Set(new TextDecoder().decode(manifest).match(/(?<=")[0-9a-f]{64}(?=")/g) ?? []);
}
