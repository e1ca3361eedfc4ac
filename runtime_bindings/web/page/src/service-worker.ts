/** Serve the page's own files without a network. The artefact is left alone: the engine caches it. */

export {};
declare const self: ServiceWorkerGlobalScope;
/** The build fills in the list of files and their digest. */
declare const PAGE_FILES: readonly string[];
declare const PAGE_DIGEST: string;

const PREFIX = "argosy-page-";
const CACHE = PREFIX + PAGE_DIGEST;
const INDEX = new URL("./", self.location.href).href;
const OURS = new Set([INDEX, ...PAGE_FILES.map((file) => new URL(file, self.location.href).href)]);

self.addEventListener("install", (event) => {
  event.waitUntil(fill().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(dropOlder().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  address.search = address.hash = "";
  if (request.method === "GET" && OURS.has(address.href)) event.respondWith(answer(request, address.href));
});

async function fill(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll([...OURS].map((url) => new Request(url, { cache: "no-cache" })));
}

async function dropOlder(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
}

/** Answer from the server, or from the cache if it is unreachable; hashed files never change, so from the cache first. */
async function answer(request: Request, url: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(url);
  if (kept !== undefined && url.includes("/assets/")) return kept;
  try {
    return await fetch(request);
  } catch (error) {
    if (kept !== undefined) return kept;
    throw error;
  }
}
