/** Switch between system, light and dark colours. `public/theme.js` applies the choice before the first paint. */

import { byId } from "./dom.js";

type Theme = "auto" | "light" | "dark";

const NEXT: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const LABELS: Record<Theme, string> = { auto: "same as system", light: "light", dark: "dark" };
const KEY = "argosy.theme";

export function setUpTheme(): void {
  const root = document.documentElement;
  const button = byId("theme");
  const chosen = root.dataset["theme"];
  let theme: Theme = chosen === "light" || chosen === "dark" ? chosen : "auto";

  const show = (): void => {
    if (theme === "auto") delete root.dataset["theme"];
    else root.dataset["theme"] = theme;
    const label = `Colours: ${LABELS[theme]}`;
    button.setAttribute("aria-label", label);
    button.title = label;
    byId("theme-icon").setAttribute("href", `#icon-theme-${theme}`);
  };
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    show();
    try {
      if (theme === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Without storage the choice lasts until the page is closed.
    }
  });
  show();
}
