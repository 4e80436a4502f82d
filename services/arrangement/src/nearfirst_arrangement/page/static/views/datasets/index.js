/** Datasets: the list, a new one, one of them. */
import { AddDataset } from "./add.js";
import { DatasetView } from "./dataset.js";
import { DatasetList } from "./list.js";

/** @type {import("../index.js").Area} */
export const area = {
  label: "Datasets",
  path: "/datasets",
  views: { "/datasets": DatasetList, "/datasets/new": AddDataset, "/datasets/:id": DatasetView },
};
