/** Every area of the page, in the order of the navigation. */
import { area as arrangements } from "./arrangements/index.js";
import { area as datasets } from "./datasets/index.js";
import { area as evaluations } from "./evaluations/index.js";
import { area as overview } from "./overview/index.js";
import { area as runs } from "./runs/index.js";
import { area as studies } from "./studies/index.js";

/**
 * @typedef {{label: string, path: string, views: Record<string, (parameters: Record<string, string>) => any>}} Area
 * `label` and `path`: in the navigation; `views`: components by the pattern of their address, `/runs/:id`
 */

/** @type {Area[]} */
export const AREAS = [overview, datasets, arrangements, runs, evaluations, studies];
