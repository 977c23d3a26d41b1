import { chown, lstat, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeRoomForFolder, refuseForeignPlaces } from "../../../src/engine/files/links.js";
import { type Places, placesFor } from "../../../src/engine/files/places.js";
import { removeStrangers } from "../../../src/engine/files/strangers.js";

const OURS = process.getuid?.() ?? 0;
const THEIRS = 12345;

let folder: string;
let outside: string;
let space: string;
let places: Places;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-links-"));
  outside = join(folder, "outside");
  space = join(folder, "space");
  places = placesFor(join(folder, "data"), new Map([["16400", space]]));
  for (const path of [outside, space, places.directory]) await mkdir(path);
  await writeFile(join(outside, "kept"), "");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const linked = async (name: string, to = outside): Promise<string> => {
  const path = join(places.directory, name);
  await symlink(to, path);
  return path;
};

describe("a link in the target", () => {
  test("where the backup has a folder goes, and what it leads to is not touched", async () => {
    const link = await linked("pg_subtrans");
    const wal = await linked("pg_wal");
    await removeStrangers(places, new Set([link, wal, join(wal, "kept")]));
    expect(await readdir(outside)).toEqual(["kept"]);
    await makeRoomForFolder(link, places);
    await makeRoomForFolder(wal, places);
    expect(await readdir(places.directory)).toEqual(["pg_wal"]);
    expect(await readdir(outside)).toEqual(["kept"]);
  });

  test("that is pg_wal on another disk stays, and is cleaned", async () => {
    const wal = await linked("pg_wal");
    await removeStrangers(places, new Set([wal]));
    expect((await lstat(wal)).isSymbolicLink()).toBe(true);
    expect(await readdir(outside)).toEqual([]);
  });

  test("that is pg_wal and leads nowhere gives way", async () => {
    await makeRoomForFolder(await linked("pg_wal", join(folder, "nowhere")), places);
    expect(await readdir(places.directory)).toEqual([]);
  });
});

describe.runIf(OURS === 0)(
  "what lies outside of the target is refused when it is not the cluster's own",
  () => {
    test("behind pg_wal", async () => {
      await linked("pg_wal");
      await refuseForeignPlaces(places, OURS);
      await expect(refuseForeignPlaces(places, THEIRS)).rejects.toMatchObject({
        code: "target_refused",
        message: `${join(places.directory, "pg_wal")} is a link to a directory that does not belong to the owner of the cluster`,
      });
    });

    test("in a tablespace's place, but for an empty one or none", async () => {
      await refuseForeignPlaces(places, THEIRS);
      await writeFile(join(space, "file"), "");
      await expect(refuseForeignPlaces(places, THEIRS)).rejects.toMatchObject({
        code: "target_refused",
        message: `the tablespace directory ${space} does not belong to the owner of the cluster`,
      });
      await chown(space, THEIRS, THEIRS);
      await refuseForeignPlaces(places, THEIRS);
      await rm(space, { recursive: true });
      await refuseForeignPlaces(places, THEIRS);
      await symlink(join(folder, "data"), space); // empty, and somebody else's
      await expect(refuseForeignPlaces(places, THEIRS)).rejects.toThrow(/does not belong/);
    });
  },
);
