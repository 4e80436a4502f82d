/** Light or dark: as the system says, until the person chooses. */
import { makeStore } from "./store.js";
import { readStored, writeStored } from "./storage.js";

const NAME = "theme";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function current() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (prefersDark.matches ? "dark" : "light");
}

/** "light" or "dark", as it is drawn now. */
export const theme = makeStore(readStored("local", NAME) ?? current());

/** Turn it over and remember it; the system's own again when that is what was chosen. */
export function toggleTheme() {
  const next = theme.get() === "dark" ? "light" : "dark";
  const isSystems = next === (prefersDark.matches ? "dark" : "light");
  if (isSystems) delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  writeStored("local", NAME, isSystems ? null : next);
  theme.set(next);
}

prefersDark.addEventListener("change", () => theme.set(current()));
