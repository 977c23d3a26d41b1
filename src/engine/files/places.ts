import { readdir } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import type { PhysicalFacts } from "../../domain/physical.js";

/** Where every file of the cluster goes: below the directory, and for a tablespace below its own. */
export interface Places {
  directory: string;
  /** By the tablespace's oid. */
  tablespaces: Map<string, string>;
  /** Where a pg_wal on another disk is, when that is known by a path of its own. */
  walElsewhere: string | null;
  pathOf(path: string): string;
}

const SPACE = /^pg_tblspc\/(\d+)(?:\/(.*))?$/;

export const spaceIn = (path: string): string | null => SPACE.exec(path)?.[1] ?? null;

const WAL = "pg_wal/";

export function placesFor(
  directory: string,
  tablespaces: Map<string, string>,
  walElsewhere: string | null = null,
): Places {
  return {
    directory,
    tablespaces,
    walElsewhere,
    pathOf: (path) => {
      if (walElsewhere !== null && path.startsWith(WAL)) return join(walElsewhere, path.slice(WAL.length));
      const [, oid, inner] = SPACE.exec(path) ?? [];
      const space = oid === undefined ? undefined : tablespaces.get(oid);
      return space === undefined || inner === undefined ? join(directory, path) : join(space, inner);
    },
  };
}

/** `wanted` maps names or oids to directories; a tablespace without one goes back to where it was. */
export async function chooseTablespaces(
  facts: PhysicalFacts,
  wanted: Record<string, string>,
  isSameCluster: boolean,
): Promise<Map<string, string>> {
  const known = facts.tablespaces.flatMap(({ oid, name }) => [oid, name]);
  for (const [name, place] of Object.entries(wanted)) {
    if (!known.includes(name))
      throw new JBackupError("usage", `the backup has no tablespace "${name}"`, {
        hint:
          known.length === 0
            ? "leave --tablespace out: it has none at all"
            : `it has ${facts.tablespaces.map((space) => space.name).join(", ")}`,
      });
    if (!isAbsolute(place))
      throw new JBackupError("usage", `the place of tablespace ${name} is no absolute path: ${place}`, {
        hint: `write --tablespace ${name}=/ABSOLUTE/PATH`,
      });
  }
  const chosen = new Map<string, string>();
  for (const { oid, name, location } of facts.tablespaces) {
    const place = wanted[name] ?? wanted[oid] ?? location;
    if (!isSameCluster) await requireEmpty(name, place);
    if ([...chosen.values()].includes(place))
      throw new JBackupError("usage", `two tablespaces would go to ${place}`, {
        hint: "give each a directory of its own with --tablespace NAME=DIR",
      });
    chosen.set(oid, place);
  }
  return chosen;
}

async function requireEmpty(name: string, place: string): Promise<void> {
  try {
    if ((await readdir(place)).length === 0) return;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  throw new JBackupError("target_refused", `tablespace ${name} would go to ${place}, which is not empty`, {
    hint: `give it another directory: --tablespace ${name}=/SOME/EMPTY/DIRECTORY`,
  });
}
