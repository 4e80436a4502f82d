/** Studies: which order of the data helps. */
import { StudyList } from "./list.js";
import { NewStudy } from "./new.js";
import { StudyView } from "./study.js";

/** @type {import("../index.js").Area} */
export const area = {
  label: "Studies",
  path: "/studies",
  views: { "/studies": StudyList, "/studies/new": NewStudy, "/studies/:id": StudyView },
};
