/** Arrangements: the list, a new one, one of them. */
import { ArrangementView } from "./arrangement.js";
import { ArrangementList } from "./list.js";
import { NewArrangement } from "./new.js";

/** @type {import("../index.js").Area} */
export const area = {
  label: "Arrangements",
  path: "/arrangements",
  views: { "/arrangements": ArrangementList, "/arrangements/new": NewArrangement, "/arrangements/:id": ArrangementView },
};
