/** Run Argosy artefacts in a web page, on WebGPU. */
export { ChatModule } from "./chat.js";
export { type Request, type RequestStats } from "./engine.js";
export { ArgosyError } from "./errors.js";
export { LoopDetector } from "./loops.js";
export { loadModel, type Model } from "./load.js";
export { INTEGER_RANGES, RANGES } from "./params.js";
export { serveWorker } from "./worker.js";
export type * from "./types.js";
