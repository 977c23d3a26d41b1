import { isAbsolute } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { PhysicalFacts } from "../../domain/physical.js";
import { refuseForeignPlaces } from "./links.js";
import { chooseTablespaces, type Places, placesFor } from "./places.js";
import { lookAt, refuseBusy, refuseRunning, requireRoom, type TargetState } from "./target.js";

export interface DirectoryWish {
  directory: string;
  /** What is there may be kept where it is right, and is overwritten where it is not. */
  delta: boolean;
  tablespaces: Record<string, string>;
}

export interface InspectedTarget {
  state: TargetState;
  places: Places;
  /** Compare with what is there: asked for, or going on where a killed run stopped. */
  isDelta: boolean;
  overwrites: boolean;
}

/** Everything that can be known about the target before anything in it is touched. */
export async function inspectTarget(wish: DirectoryWish, facts: PhysicalFacts): Promise<InspectedTarget> {
  const { directory, delta } = wish;
  if (!isAbsolute(directory))
    throw new JBackupError("bug", `the directory ${directory} was not made absolute`);
  const state = await lookAt(directory);
  refuseBusy(directory, state);
  const isOurs = state.mark !== null;
  // a whole mark tells of a server that is ours to stop
  if (!isOurs || state.mark?.process === null) await refuseRunning(directory);
  if (!state.isEmpty && !isOurs) refuseFull(wish, state, facts);
  const isDelta = !state.isEmpty && (delta || isOurs);
  const places = placesFor(directory, await chooseTablespaces(facts, wish.tablespaces, isDelta));
  if (!isDelta) await requireRoom(directory, facts.bytes);
  else if (state.owner !== null) await refuseForeignPlaces(places, state.owner.uid, isOurs);
  return { state, places, isDelta, overwrites: !state.isEmpty && !isOurs };
}

function refuseFull({ directory, delta }: DirectoryWish, state: TargetState, facts: PhysicalFacts): void {
  if (!delta)
    throw new JBackupError("target_refused", `${directory} is not empty`, {
      hint: "name an empty directory with --into-dir, or add --delta to overwrite what differs there",
    });
  if (state.systemId === null)
    throw new JBackupError("target_refused", `${directory} holds files, but no PostgreSQL cluster`, {
      hint: "--delta goes onto the directory of the cluster that was backed up; name another one with --into-dir",
    });
  if (state.systemId !== facts.server.systemId)
    throw new JBackupError(
      "target_refused",
      `${directory} holds the cluster ${state.systemId}, and the backup is of cluster ${facts.server.systemId}`,
      { hint: "name another directory with --into-dir" },
    );
}
