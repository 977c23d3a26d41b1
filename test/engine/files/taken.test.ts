import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { placesFor } from "../../../src/engine/files/places.js";
import { takePlaces } from "../../../src/engine/files/taken.js";

const isRoot = process.getuid?.() === 0;
const THEIRS = { uid: 12345, gid: 12345 };

let folder: string;
let outside: string;
let data: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-taken-"));
  await chmod(folder, 0o755);
  outside = join(folder, "outside");
  data = join(folder, "data");
  for (const path of [outside, data, join(data, "base")]) await mkdir(path);
  await writeFile(join(outside, "kept"), "");
  await writeFile(join(data, "PG_VERSION"), "15\n");
  for (const path of [data, join(data, "base")]) await chown(path, THEIRS.uid, THEIRS.gid);
  await chmod(data, 0o750);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const lookOf = async (path: string) => {
  const { uid, mode } = await stat(path);
  return [uid, mode & 0o7777];
};

/** A process of the owner's that stands in a folder already, and does something there when it is told to. */
function waiting(cwd: string, script: string): { child: ChildProcess; go(): Promise<number> } {
  const child = spawn("sh", ["-c", `echo there; read word; ${script}`], {
    ...THEIRS,
    cwd,
    stdio: ["pipe", "pipe", "ignore"],
  });
  return {
    child,
    go: async () => {
      child.stdin?.end("go\n");
      return (await once(child, "exit"))[0] as number;
    },
  };
}

describe.runIf(isRoot)("a target that root takes from its owner", () => {
  test("is closed to him, also to what stands in it already, and goes back as it was", async () => {
    const swapping = ["base", "."].map((below) =>
      waiting(
        join(data, below),
        below === "." ? `mv base away && ln -s ${outside} base` : `ln -s ${outside} 5`,
      ),
    );
    await Promise.all(swapping.map(({ child }) => once(child.stdout as NodeJS.EventEmitter, "data")));
    const taken = await takePlaces(placesFor(data, new Map()), THEIRS);
    await taken.take(join(taken.places.directory, "base"), 0o700);
    expect([await lookOf(data), await lookOf(join(data, "base"))]).toEqual([
      [0, 0o700],
      [0, 0o700],
    ]);
    for (const one of swapping) expect(await one.go()).not.toBe(0);
    await taken.confirm();
    await taken.giveBack();
    expect([await lookOf(data), await lookOf(join(data, "base"))]).toEqual([
      [THEIRS.uid, 0o750],
      [THEIRS.uid, 0o700],
    ]);
    expect((await readdir(data)).toSorted()).toEqual(["PG_VERSION", "base"]);
  });

  test("stays the same one when a link takes its name, which is told", async () => {
    const taken = await takePlaces(placesFor(data, new Map()), THEIRS);
    await rename(data, join(folder, "moved"));
    await symlink(outside, data);
    await writeFile(taken.places.pathOf("base/1"), "");
    expect(await readdir(join(folder, "moved", "base"))).toEqual(["1"]);
    await expect(taken.confirm()).rejects.toMatchObject({
      code: "target_refused",
      message: `${data} is not the directory any more that it was a moment ago`,
    });
    await taken.giveBack();
    expect([await readdir(outside), await lookOf(outside)]).toEqual([["kept"], [0, 0o755]]);
  });

  test.each(["the directory", "a tablespace"])(
    "is refused where something of root's stands as %s",
    async (which) => {
      const before = await lookOf(outside);
      const places =
        which === "the directory"
          ? placesFor(outside, new Map())
          : placesFor(data, new Map([["16400", outside]]));
      await expect(takePlaces(places, THEIRS)).rejects.toMatchObject({
        code: "target_refused",
        message: `${outside} is not the directory any more that it was a moment ago`,
      });
      expect([await readdir(outside), await lookOf(outside)]).toEqual([["kept"], before]);
      expect(await lookOf(data)).toEqual([THEIRS.uid, 0o750]);
    },
  );

  test("is gone on with when a run that was killed had taken it", async () => {
    const killed = await takePlaces(placesFor(data, new Map()), THEIRS);
    const again = await takePlaces(placesFor(data, new Map()), THEIRS);
    await again.giveBack();
    expect(await lookOf(data)).toEqual([THEIRS.uid, 0o700]);
    await killed.giveBack(); // only to close what it holds
  });

  test("has its pg_wal on another disk, where the link led when it was taken; that one must be the owner's", async () => {
    const wal = join(folder, "wal");
    await mkdir(wal);
    await chown(wal, THEIRS.uid, THEIRS.gid);
    await symlink(wal, join(data, "pg_wal"));
    const taken = await takePlaces(placesFor(data, new Map()), THEIRS);
    await rename(wal, `${wal}-moved`);
    await symlink(outside, wal);
    await writeFile(taken.places.pathOf("pg_wal/000000010000000000000001"), "");
    expect(await readdir(`${wal}-moved`)).toHaveLength(1);
    await taken.giveBack();
    expect(await readdir(outside)).toEqual(["kept"]);
    await expect(takePlaces(placesFor(data, new Map()), THEIRS)).rejects.toMatchObject({
      code: "target_refused",
    });
  });

  test("can be reached by him through the folders that are made on the way, also after a run that was killed", async () => {
    const [directory, space] = [join(folder, "x/a/b"), join(folder, "x/t/a/b/c")];
    const places = placesFor(directory, new Map([["16400", space]]));
    const umask = process.umask(0o077);
    try {
      const killed = await takePlaces(places, THEIRS);
      const taken = await takePlaces(places, THEIRS);
      await taken.giveBack();
      await killed.giveBack(); // only to close what it holds
    } finally {
      process.umask(umask);
    }
    for (const path of ["x", "x/a", "x/t", "x/t/a", "x/t/a/b"])
      expect(await lookOf(join(folder, path))).toEqual([0, 0o755]);
    for (const path of [directory, space]) {
      expect(await lookOf(path)).toEqual([THEIRS.uid, 0o700]);
      const reaching = spawn("sh", ["-c", `echo > ${path}/file`], { ...THEIRS, stdio: "ignore" });
      expect(await once(reaching, "exit")).toEqual([0, null]);
    }
  });

  test("is named as people know it in what goes wrong", async () => {
    const taken = await takePlaces(placesFor(data, new Map()), THEIRS);
    const error = (await lstat(taken.places.pathOf("base/none")).catch((thrown: unknown) => thrown)) as Error;
    expect(taken.named(error)).toMatchObject({
      path: join(data, "base/none"),
      message: `ENOENT: no such file or directory, lstat '${join(data, "base/none")}'`,
    });
    await taken.giveBack();
  });
});

test("a target of our own is left as it is", async () => {
  const before = await lookOf(data);
  const places = placesFor(data, new Map());
  const taken = await takePlaces(places, null);
  expect(taken.places).toBe(places);
  await taken.take(join(data, "base"), 0o711);
  await taken.giveBack();
  expect([await lookOf(data), (await lookOf(join(data, "base")))[1]]).toEqual([before, 0o711]);
});
