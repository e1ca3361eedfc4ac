// Apply the chosen colours before the first paint; theme.ts does the rest.
(() => {
  try {
    const theme = localStorage.getItem("argosy.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Without storage, use the system's colours.
  }
})();
