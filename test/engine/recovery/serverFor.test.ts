import { chown, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isPrivateDirectory } from "../../../src/engine/recovery/serverFor.js";
import type { Site } from "../../../src/engine/site.js";

test("only a directory that a run of ours made for its server may be removed", async () => {
  const parent = await mkdtemp(join(tmpdir(), "jbackup-private-"));
  const site = { environment: { temporaryDirectory: parent } } as Site;
  const may = (path: string, uid = 0) => isPrivateDirectory(site, path, { uid, gid: uid });
  const place = join(parent, "jbackup-server-0123abcd");
  try {
    await mkdir(join(place, "jbackup-server-0123abcd"), { recursive: true });
    expect(await may(place)).toBe(true);
    expect(await may(join(place, "jbackup-server-0123abcd"))).toBe(false);
    expect(await may(parent)).toBe(false);
    expect(await may(`${place}/../..`)).toBe(false);
    await symlink(place, join(parent, "jbackup-server-00000000"));
    expect(await may(join(parent, "jbackup-server-00000000"))).toBe(false);
    if (process.getuid?.() !== 0) return;
    await chown(place, 12345, 12345);
    expect(await may(place)).toBe(false);
    expect(await may(place, 12345)).toBe(true);
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
});
