/** The whole script of a worker: `new Worker(new URL("@argosy/web/worker", import.meta.url), { type: "module" })`. */
import { serveWorker } from "./worker.js";

serveWorker();
