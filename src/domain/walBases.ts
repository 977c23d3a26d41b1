import type { RecoveryTarget } from "./recoveryTarget.js";
import type { WalBase, WalInventory } from "./walCoverage.js";
import { chooseRoute, routesFrom, type WalRoute } from "./walRoutes.js";

/**
 * The base for a target, of some that all ended before it, newest first. Which timeline the target lies on is asked of all of them
 * together; then it is the newest one that leads there. A backup of a timeline that was left before it ended is passed over.
 */
export function baseFor<Base extends WalBase>(
  inventory: WalInventory,
  bases: readonly Base[],
  target: RecoveryTarget,
): Base | null {
  const known = bases.map((base) => ({ base, routes: routesFrom(inventory, base) }));
  if (known.length === 0) return null;
  const { timeline } = chooseRoute(joined(known.map(({ routes }) => routes)), target).route;
  const leads = (routes: WalRoute[]): boolean => routes.some((route) => route.timeline === timeline);
  return known.find(({ routes }) => leads(routes))?.base ?? null;
}

/** Each timeline once: how far it reaches from the newest base, and where it comes from, which the oldest one knows. */
function joined(all: WalRoute[][]): WalRoute[] {
  const newest = Math.max(...all.flat().flatMap(({ isNewest, timeline }) => (isNewest ? [timeline] : [])));
  const routes = new Map<number, WalRoute>();
  for (const route of all.flat())
    routes.set(route.timeline, {
      ...route,
      path: routes.get(route.timeline)?.path ?? route.path,
      isNewest: route.timeline === newest,
    });
  return [...routes.values()].sort((a, b) => a.timeline - b.timeline);
}

/** No older base leads to any other timeline than this one does. */
export const leadsEverywhere = (inventory: WalInventory, base: WalBase): boolean => {
  const led = new Set(routesFrom(inventory, base).map(({ timeline }) => timeline));
  return [...inventory.histories].every(
    ([timeline, switches]) => led.has(timeline) && switches.every((one) => led.has(one.timeline)),
  );
};
