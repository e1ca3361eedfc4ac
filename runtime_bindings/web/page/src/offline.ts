/** Keep the page itself available offline. The engine caches the model's files. */
export function keepForOffline(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  navigator.serviceWorker.register(new URL("service-worker.js", document.baseURI)).catch(() => {
    // If the browser forbids it, the page works online only.
  });
  // Ask the browser not to evict the model when the disk gets full; some browsers ask the user.
  void navigator.storage?.persist?.().catch(() => false);
}
