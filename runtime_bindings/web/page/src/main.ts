/** Start the chat page. */

import "./styles/page.css";
import "./styles/thread.css";
import "./styles/settings.css";

import { App } from "./app.js";
import { keepForOffline } from "./offline.js";
import { setUpTheme } from "./view/theme.js";

const artefact = document.querySelector<HTMLMetaElement>('meta[name="argosy-artefact"]')?.content ?? "artefact/";

setUpTheme();
keepForOffline();
void new App(new URL(artefact, document.baseURI)).load();
