/** Run the model in a worker, so that the page stays responsive. */

import { serveWorker } from "@argosy/web";

serveWorker();
