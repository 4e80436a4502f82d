// Runs before the first paint, so that a chosen theme doesn't flash in late. core/theme.js does the rest.
try {
  const theme = localStorage.getItem("nearfirst.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage may be forbidden; then the system's theme it is.
}
