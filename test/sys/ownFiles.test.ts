import { execFileSync } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sweepScratchClusters } from "../../src/postgres/scratchCluster.js";
import { isOwnFolder, objectIn, readOwnFile } from "../../src/sys/ownFiles.js";
import { ownMark } from "../../src/sys/processes.js";

const isRoot = process.getuid?.() === 0;
const STRANGER = 12345;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-own-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("a file", () => {
  test("of ours is read, and a missing one is nobody's", async () => {
    const path = join(folder, "ours");
    await writeFile(path, "text");
    expect(await readOwnFile(path)).toEqual({ whose: "ours", text: "text" });
    expect(await readOwnFile(join(folder, "none"))).toEqual({ whose: "nobody's" });
    expect(await readOwnFile(join(path, "none"))).toEqual({ whose: "nobody's" });
  });

  test("that is a link, a pipe or a directory is not read", async () => {
    await symlink(join(folder, "ours"), join(folder, "link"));
    execFileSync("mkfifo", [join(folder, "pipe")]);
    for (const name of ["link", "pipe", "."])
      expect(await readOwnFile(join(folder, name))).toEqual({ whose: "somebody else's" });
  });

  test.runIf(isRoot)("of somebody else is not read", async () => {
    const path = join(folder, "theirs");
    await writeFile(path, "text");
    await chown(path, STRANGER, STRANGER);
    expect(await readOwnFile(path)).toEqual({ whose: "somebody else's" });
  });

  test("that a power cut tore holds no object", () => {
    expect(["", '{"pid": 1', "null", "7"].map(objectIn)).toEqual([null, null, null, null]);
    expect(objectIn('{"pid": 1}')).toEqual({ pid: 1 });
  });
});

test("a folder behind a link is not ours", async () => {
  await symlink(folder, join(folder, "away"));
  expect(await isOwnFolder(join(folder, "away"))).toBe(false);
  expect(await isOwnFolder(join(folder, "none"))).toBe(false);
  expect(await isOwnFolder(folder)).toBe(true);
});

describe("a scratch cluster's folder", () => {
  const environment = { path: "/usr/bin:/bin", home: "/" };

  /** Says in `ran` when its pg_ctl was run. */
  async function trap(place: string, name: string, text: (bin: string) => string): Promise<string> {
    const scratch = join(place, `jbackup-scratch-${name}`);
    const bin = join(place, "bin");
    await mkdir(join(scratch, "data"), { recursive: true });
    await mkdir(bin, { recursive: true });
    await writeFile(join(bin, "pg_ctl"), `#!/bin/sh\ntouch ${join(place, "ran")}\n`);
    await chmod(join(bin, "pg_ctl"), 0o755);
    await writeFile(join(scratch, "owner.json"), text(bin));
    return scratch;
  }
  const dead = { ...ownMark(), startTicks: "1" };
  const emptyPlace = () => mkdtemp(join(folder, "place-"));

  test("of ours goes when its run is gone or its mark is torn; no program is run that a mark names", async () => {
    const place = await emptyPlace();
    await trap(place, "00000001", (binDirectory) => JSON.stringify({ ...dead, binDirectory }));
    await trap(place, "00000002", () => "");
    const alive = await trap(place, "00000003", () => JSON.stringify(ownMark()));
    const swept = await sweepScratchClusters(place, environment);
    expect(swept.toSorted()).toEqual(
      ["00000001", "00000002"].map((name) => join(place, `jbackup-scratch-${name}`)),
    );
    expect(await isOwnFolder(alive)).toBe(true);
    expect(await readOwnFile(join(place, "ran"))).toEqual({ whose: "nobody's" });
  });

  test.runIf(isRoot)("of somebody else is left alone", async () => {
    const place = await emptyPlace();
    const whole = await trap(place, "00000001", (binDirectory) => JSON.stringify({ ...dead, binDirectory }));
    const torn = await trap(place, "00000002", () => "");
    await chown(whole, STRANGER, STRANGER);
    await chown(join(torn, "owner.json"), STRANGER, STRANGER);
    expect(await sweepScratchClusters(place, environment)).toEqual([]);
    expect(await readOwnFile(join(place, "ran"))).toEqual({ whose: "nobody's" });
  });
});
