// Loaded before the style sheet, so that the page never flashes in the wrong theme.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("theme");
  } catch {
    // Storage may be shut off; the system's preference then decides.
  }
  if (chosen === "light" || chosen === "dark") {
    document.documentElement.dataset.theme = `mailwright-${chosen}`;
  }
})();
