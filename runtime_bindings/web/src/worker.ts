/** Serves a `ChatModule` to the page that started this worker. A worker's script is these two lines: import and call. */
export function serveWorker(): void {}
