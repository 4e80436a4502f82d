/** The overview: what runs, what waits and why, which worker has what. */
import { Overview } from "./overview.js";

/** @type {import("../index.js").Area} */
export const area = { label: "Overview", path: "/", views: { "/": Overview } };
