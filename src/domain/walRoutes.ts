import { JBackupError } from "./errors.js";
import { type RecoveryTarget, targetText } from "./recoveryTarget.js";
import { type Lsn, lsnText, parseLsn } from "./wal.js";
import {
  legsTo,
  newestFrom,
  pathFrom,
  type WalBase,
  type WalInventory,
  type WalLeg,
  type WalPath,
} from "./walCoverage.js";

/** A timeline on which a recovery from a base can end, and the way there. */
export interface WalRoute {
  timeline: number;
  legs: WalLeg[];
  path: WalPath;
  /** By then it had begun: the first of it was stored. Null for the base's own. */
  begunBy: Date | null;
  /** A recovery ends here when nothing else is asked for. */
  isNewest: boolean;
}

/** Every timeline that can be reached from a base, oldest first. */
export function routesFrom(inventory: WalInventory, base: WalBase): WalRoute[] {
  const later = [...inventory.histories.keys()].filter((timeline) => timeline > base.timeline);
  const newest = newestFrom(inventory, base);
  return [base.timeline, ...later.sort((a, b) => a - b)].flatMap((timeline) => {
    const legs = legsTo(base, inventory.histories, timeline);
    if (legs === null) return [];
    const begunBy = timeline === base.timeline ? null : firstStored(inventory, timeline);
    return [
      { timeline, legs, path: pathFrom(inventory, base, legs), begunBy, isNewest: timeline === newest },
    ];
  });
}

/** Of a timeline; null while nothing of it is stored. */
export function firstStored({ stored }: WalInventory, timeline: number): Date | null {
  const times = stored.flatMap(({ file: { name }, modifiedAt }) =>
    Number.parseInt(name.slice(0, 8), 16) === timeline ? [modifiedAt.getTime()] : [],
  );
  return times.length === 0 ? null : new Date(times.reduce((a, b) => Math.min(a, b)));
}

const isBegun = ({ begunBy }: WalRoute, at: Date): boolean => begunBy === null || begunBy <= at;

/** Up to the end of what is stored of it. */
const covers = ({ path }: WalRoute, at: Date): boolean => path.until !== null && at <= path.until;

/** All that is stored of the one is on the other's way too, so that nothing is lost by following the other. */
function isPartOf({ timeline, path }: WalRoute, other: WalRoute): boolean {
  const nth = other.legs.findIndex((leg) => leg.timeline === timeline);
  const left = nth < 0 ? undefined : other.legs[nth + 1]?.from;
  return left !== undefined && path.endLsn <= left;
}

/** Where two ways part; null where one ends on the other. */
function partingOf(a: WalRoute, b: WalRoute): Lsn | null {
  let nth = 0;
  while (a.legs[nth] !== undefined && a.legs[nth]?.timeline === b.legs[nth]?.timeline) nth++;
  const froms = [a, b].flatMap(({ legs }) => legs[nth]?.from ?? []);
  return froms.sort((x, y) => (x < y ? -1 : 1))[0] ?? null;
}

/**
 * The timeline that was in force at a moment. When a timeline was begun nobody wrote down: it was before the first of it was
 * stored, so a moment before that belongs to the older one, if that one reaches it with WAL of its own.
 */
function routeInForce(routes: WalRoute[], at: Date): WalRoute {
  let nth = Math.max(
    0,
    routes.findLastIndex((route) => isBegun(route, at)),
  );
  for (let next = nth + 1; next < routes.length; next++)
    if (isPartOf(routes[nth] as WalRoute, routes[next] as WalRoute)) nth = next;
  const inForce = routes[nth] as WalRoute;
  return covers(inForce, at)
    ? inForce
    : (routes.slice(nth + 1).find((route) => covers(route, at)) ?? inForce);
}

const newestOf = (routes: WalRoute[]): WalRoute => routes.find(({ isNewest }) => isNewest) as WalRoute;

export interface ChosenRoute {
  route: WalRoute;
  /** Timelines on which something else is stored for the same target. */
  others: WalRoute[];
}

/** The way to a target: along the timeline that is asked for, else the one that was in force then. */
export function chooseRoute(routes: WalRoute[], target: RecoveryTarget): ChosenRoute {
  const { timeline } = target;
  const asked = routes.find((route) => route.timeline === timeline);
  if (typeof timeline === "number" && asked === undefined)
    throw new JBackupError("target_refused", `timeline ${timeline} does not come after the chosen backup`, {
      hint: `from there ${routes.map((route) => route.timeline).join(", ")} can be followed; an older backup may lead to it: jbackup wal status`,
    });
  const isFree = timeline === undefined && target.kind === "time";
  const route = asked ?? (isFree ? routeInForce(routes, target.at) : newestOf(routes));
  return { route, others: routes.filter((other) => other !== route && leadsElsewhere(other, route, target)) };
}

function leadsElsewhere(other: WalRoute, route: WalRoute, target: RecoveryTarget): boolean {
  if (isPartOf(other, route) || isPartOf(route, other)) return false;
  if (target.kind === "time") return covers(other, target.at);
  if (target.kind !== "lsn") return false;
  const lsn = parseLsn(target.lsn);
  const parting = partingOf(route, other);
  return lsn <= other.path.endLsn && parting !== null && lsn > parting;
}

/** What somebody should know before he takes one timeline for the only one. */
export const otherRouteText = (target: RecoveryTarget, { timeline, path }: WalRoute): string =>
  `timeline ${timeline} leads to ${targetText(target)} too, with WAL up to ${lsnText(path.endLsn)}: --timeline ${timeline} follows it`;
