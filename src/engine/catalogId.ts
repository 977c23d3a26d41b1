import { randomUUID } from "node:crypto";
import { makeMark, readMark } from "./mark.js";
import type { Site } from "./site.js";

/** One catalog serves several hosts. */
export const isShared = ({ catalog }: Site): boolean => !catalog.location.startsWith("sqlite:");

const MARK = "catalog";

/** Tells the catalogs apart that the homes of one site have. Kept beside it, so that a catalog that was lost is missed. Null before the first backup, and of a shared one. */
export const catalogId = async (site: Site): Promise<string | null> =>
  isShared(site) ? null : readMark(site, MARK);

export const makeCatalogId = async (site: Site): Promise<string | null> =>
  isShared(site) ? null : ((await readMark(site, MARK)) ?? makeMark(site, MARK, randomUUID()));
