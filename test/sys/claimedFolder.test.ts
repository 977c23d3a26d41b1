import { readdirSync } from "node:fs";
import { chown, mkdir, mkdtemp, readdir, rm, stat, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeClaimedFolder, readClaim, sweepBegunFolders } from "../../src/sys/claimedFolder.js";
import { ownMark } from "../../src/sys/processes.js";

const isRoot = process.getuid?.() === 0;
const STRANGER = 12345;

let place: string;
beforeEach(async () => {
  place = await mkdtemp(join(tmpdir(), "jbackup-claimed-"));
});
afterEach(() => rm(place, { recursive: true, force: true }));

describe("a folder that is made", () => {
  test("names its process until its claim stands in it, and only then bears its name", async () => {
    const path = join(place, "wanted");
    let begun: string[] = [];
    await makeClaimedFolder(path, ownMark(), () => {
      begun = readdirSync(place);
    });
    const { pid, startTicks } = ownMark();
    expect(begun).toEqual([
      expect.stringMatching(new RegExp(`^jbackup-begun-${pid}-${startTicks ?? "x"}-[0-9a-f]{8}$`)),
    ]);
    expect(await readdir(place)).toEqual(["wanted"]);
    expect(await readClaim(path)).toEqual({ whose: "ours", text: JSON.stringify(ownMark()) });
    expect((await stat(path)).mode & 0o777).toBe(0o700);
  });

  test("leaves nothing when it cannot be finished", async () => {
    const path = join(place, "taken");
    await mkdir(join(path, "full"), { recursive: true });
    await expect(makeClaimedFolder(path, ownMark())).rejects.toMatchObject({ code: "ENOTEMPTY" });
    expect(await readdir(place)).toEqual(["taken"]);
    expect(await readdir(path)).toEqual(["full"]);
  });
});

describe("what was only begun", () => {
  const { pid, startTicks } = ownMark();

  test("goes when its process is gone, also when another one bears the number now; that of a living one stays", async () => {
    const alive = `jbackup-begun-${pid}-${startTicks ?? "x"}-00000001`;
    const reused = `jbackup-begun-${pid}-1-00000002`;
    const gone = "jbackup-begun-4194999-x-00000003";
    for (const name of [alive, reused, gone, "jbackup-begun-other"]) await mkdir(join(place, name));
    expect((await sweepBegunFolders(place)).toSorted()).toEqual(
      [join(place, gone), join(place, reused)].toSorted(),
    );
    expect((await readdir(place)).toSorted()).toEqual([alive, "jbackup-begun-other"].toSorted());
  });

  test("is left alone when it is a link, or somebody else's", async () => {
    const outside = join(place, "outside");
    await mkdir(outside);
    await symlink(outside, join(place, "jbackup-begun-4194999-1-00000001"));
    if (isRoot) {
      await mkdir(join(place, "jbackup-begun-4194999-1-00000002"));
      await chown(join(place, "jbackup-begun-4194999-1-00000002"), STRANGER, STRANGER);
    }
    const before = await readdir(place);
    expect(await sweepBegunFolders(place)).toEqual([]);
    expect(await readdir(place)).toEqual(before);
  });
});
