/** Runs Argosy artefacts in a web page, on WebGPU. */
export { ChatModule } from "./chat.js";
export { ArgosyError } from "./errors.js";
export { serveWorker } from "./worker.js";
export type * from "./types.js";
