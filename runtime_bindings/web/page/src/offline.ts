/** Keeps the page itself for the next visit, also without a network. The model's files are the engine's business. */
export function keepForOffline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  navigator.serviceWorker.register(new URL("service-worker.js", document.baseURI)).catch(() => {
    // A browser that forbids it has a page that works online.
  });
  // Asks that the model is not the first thing to go when the disk gets full; some browsers ask the reader.
  void navigator.storage?.persist?.().catch(() => false);
}
