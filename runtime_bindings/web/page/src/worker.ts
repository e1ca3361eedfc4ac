/** The thread in which the model computes, so that the page stays responsive. */

import { serveWorker } from "@argosy/web";

serveWorker();
