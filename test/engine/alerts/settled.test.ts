import { afterEach, beforeEach, expect, test } from "vitest";
import { bodyOf } from "../../../src/domain/alertMessage.js";
import type { Backup, CopyStatus } from "../../../src/domain/backup.js";
import { tellNotice } from "../../../src/engine/alerts/outbox.js";
import { watchBackup } from "../../../src/engine/alerts/watch.js";
import { type ActContext, act } from "../../../src/engine/dr/act.js";
import { realGround } from "../../../src/engine/dr/ground.js";
import { alertRebuiltCopies, settleRebuiltCopies } from "../../../src/engine/rebuiltCopies.js";
import type { Site } from "../../../src/engine/site.js";
import { backupNumber } from "../../contract/catalogRecords.js";
import { openTestSite } from "../../support/openedSite.js";
import { makeSite, type TestSite } from "../../support/site.js";

let made: TestSite;
let site: Site;
beforeEach(async () => {
  const channel = "{name: hook, kind: webhook, url: 'http://127.0.0.1:1/hook', atLeast: critical}";
  made = await makeSite({
    url: "postgresql://nobody@127.0.0.1:1/shop",
    more: ["alerts:", "  channels:", `    - ${channel}`],
  });
  site = await openTestSite(made);
});
afterEach(async () => {
  await site.close();
  await made.remove();
});

const open = async (): Promise<string[]> =>
  (await site.catalog.alerts({ status: ["active"] })).map(
    ({ type, fingerprint }) => `${type} ${fingerprint}`,
  );

test("what a runbook tells goes to every channel, and leaves no alert behind", async () => {
  const context = { site, ground: realGround(site), step: "tell", run: "r" } as unknown as ActContext;
  const told = await act({ kind: "notify", text: "storage two was filled again" }, context);
  expect(told).toEqual({ what: "told hook", text: "storage two was filled again" });
  expect(await site.catalog.alerts({})).toEqual([]);
  const [delivery] = await site.catalog.deliveries({});
  expect(delivery).toMatchObject({ channel: "hook", alertId: null, event: "notice", status: "waiting" });
  const body = bodyOf(delivery?.payload as never);
  expect(body).toMatch(/^storage two was filled again\n\nTry: jbackup dr report r\n/);
  expect(body).toMatch(/type {6}NOTICE, info/);
  expect(body).not.toContain("alerts ack");
});

test("where no channel is configured a notice is only noted", async () => {
  const alone = { ...site, config: { ...site.config, alerts: { ...site.config.alerts, channels: [] } } };
  expect(await tellNotice(alone as Site, { message: "m", hint: "h", fingerprint: "f" })).toEqual([]);
});

const withCopies = (number: number, statuses: CopyStatus[]): Backup => {
  const one = backupNumber(number);
  return { ...one, copies: one.copies.map((copy, at) => ({ ...copy, status: statuses[at] ?? "stored" })) };
};

test("copies that a rebuilt catalog missed are no trouble any more when the last of them is there", async () => {
  await site.catalog.saveBackups([withCopies(1, ["missing"]), withCopies(2, ["stored", "missing"])]);
  await alertRebuiltCopies(site, 2);
  const [alert] = await site.catalog.alerts({ status: ["active"] });
  expect(alert?.hint).toBe(
    "jbackup list shows which copies are missing; jbackup verify --all --heal brings them in",
  );
  await site.catalog.saveBackups([withCopies(1, ["stored"])]);
  await settleRebuiltCopies(site);
  expect(await open()).toEqual(["COPY_MISSING rebuild:copies"]);
  await site.catalog.saveBackups([withCopies(2, ["stored", "removed"])]);
  await settleRebuiltCopies(site);
  expect(await open()).toEqual([]);
});

test("a rebuild that misses nothing settles what an earlier one missed", async () => {
  await alertRebuiltCopies(site, 2);
  await alertRebuiltCopies(site, 0);
  expect(await open()).toEqual([]);
});

test.each([
  ["wal", null, []],
  ["full", "logical", ["SIZE_DEVIATION size:full logical:"]],
] as const)("a %s backup of another size than usual", async (kind, method, alerts) => {
  const ofSize = (number: number, rawBytes: number): Backup =>
    backupNumber(number, { kind, method, rawBytes, durationMs: 1 });
  const now = ofSize(20, 5);
  const before = Array.from({ length: 10 }, (_, at) => ofSize(at, 1_000_000));
  await site.catalog.saveBackups([...before, now]);
  await watchBackup(site, now);
  expect(await open()).toEqual(alerts);
});
