// Before anything is drawn: the colours that the reader chose, if any. The page's theme.ts does the rest.
(() => {
  try {
    const theme = localStorage.getItem("argosy.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is forbidden here: the system's colours it is.
  }
})();
