import { serveWorker } from "@argosy/web";

serveWorker();
