import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Alert } from "../../src/domain/backup.js";
import { raiseAlert } from "../../src/engine/alert.js";
import { ConfigWatch } from "../../src/engine/schedule/configWatch.js";
import type { Site } from "../../src/engine/site.js";
import { openTestSite } from "../support/openedSite.js";
import { makeSite, type TestSite } from "../support/site.js";

let made: TestSite;
let site: Site;

beforeEach(async () => {
  made = await makeSite({ url: "postgresql://nobody@127.0.0.1:1/shop" });
  site = await openTestSite(made);
});
afterEach(async () => {
  await site.close();
  await made.remove();
});

const alerts = async (): Promise<Pick<Alert, "status" | "note">[]> =>
  (await site.catalog.alerts({ fingerprint: "schedule:config" })).map(({ status, note }) => ({
    status,
    note,
  }));

test("a refused configuration that is mended before the daemon begins anew is told of no longer", async () => {
  const good = await readFile(made.configFile, "utf8");
  const watch = await ConfigWatch.begin(site);
  await writeFile(made.configFile, `${good}minCopies: 0\n`);
  expect(await watch.look(site, true)).toBeNull();
  await watch.end();
  expect(await alerts()).toEqual([{ status: "active", note: null }]);

  await writeFile(made.configFile, good);
  await ConfigWatch.begin(site);
  expect(await alerts()).toEqual([
    { status: "resolved", note: "the daemon began with a configuration that can be used" },
  ]);
});

test("every configuration that is taken resolves what another process told", async () => {
  const watch = await ConfigWatch.begin(site);
  await raiseAlert(site, {
    type: "BACKUP_FAILURE",
    severity: "error",
    fingerprint: "schedule:config",
    message: "the changed configuration cannot be used",
  });
  const fresh = await watch.look(site, true);
  expect(fresh).not.toBeNull();
  await fresh?.close();
  expect(await alerts()).toEqual([{ status: "resolved", note: "the configuration can be used again" }]);
});
