import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readEnvironment } from "../../../src/config/config.js";
import type { SetUpParts } from "../../../src/engine/setUp/parts.js";
import { keysFolder, requireFree } from "../../../src/engine/setUp/requireFree.js";

const partsIn = (home: string): SetUpParts =>
  ({ environment: { ...readEnvironment({}), jbackupHome: home } }) as SetUpParts;
const filesOf = (config: string) => ({ config, kit: "/nowhere/kit" });

test.each([
  ["/etc/jbackup/jbackup.yaml", "/etc/jbackup/keys"],
  ["/etc/jbackup/wiki.yaml", "/etc/jbackup/wiki-keys"],
  ["/home/ops/jbackup.yaml", "/srv/home/keys"],
  ["/etc/other/jbackup.yaml", "/srv/home/keys"],
])("the keys of %s are in %s", (config, keys) => {
  expect(keysFolder(partsIn("/srv/home"), filesOf(config))).toBe(keys);
});

test("keys that are there are told with what makes room for another site", async () => {
  const folder = await mkdtemp(join(tmpdir(), "jbackup-free-"));
  try {
    const home = join(folder, "home");
    await mkdir(join(home, "keys"), { recursive: true });
    await writeFile(join(home, "keys", "identity"), "");
    const files = filesOf(join(folder, "b.yaml"));
    await expect(requireFree(partsIn(home), files)).rejects.toMatchObject({
      code: "target_refused",
      message: `${join(home, "keys")} holds the keys of a site already`,
      hint: expect.stringMatching(/; for another site, set JBACKUP_HOME to another folder$/),
    });
    await requireFree(partsIn(`${home}-b`), files);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
