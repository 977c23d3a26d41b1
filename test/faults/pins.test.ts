import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { makeSite, type TestSite } from "../support/site.js";

let site: TestSite;
let pinned: { id: string; copies: { path: string }[] };

interface Planned {
  id: string;
  storage: string;
  reasons: string[];
}

beforeEach(async () => {
  site = await makeSite({
    here: true,
    url: "postgresql://nobody@127.0.0.1:1/none",
    storages: (folder) =>
      ["one", "two"].map((name) => `- {name: ${name}, kind: local, path: ${join(folder, name)}}`),
    more: ["configFiles: [etc]", "retention: {one: {last: 1}, two: {last: 1}, pitrWindow: 1s}"],
  });
  mkdirSync(join(site.folder, "etc"));
  writeFileSync(join(site.folder, "etc/app.conf"), "size = 7\n");
  // no server answers, which is said with exit 3
  pinned = await site.json(["backup", "config"], [3]);
  await site.json(["backup", "config"], [3]);
  await site.json(["pin", pinned.id, "--reason", "audit 2026"]);
  return () => site.remove();
});

const pinIn = (storage: string): string => join(site.folder, storage, "pins", `${pinned.id}.json`);
const edit = (storage: string, change: (pin: Record<string, unknown>) => void): void => {
  const pin = JSON.parse(readFileSync(pinIn(storage), "utf8"));
  change(pin);
  writeFileSync(pinIn(storage), JSON.stringify(pin));
};
const isThere = (): boolean[] =>
  ["one", "two"].map((name) =>
    existsSync(join(site.folder, name, pinned.copies[0]?.path ?? "", "manifest.json")),
  );
const loseCatalog = (): void => {
  for (const name of readdirSync(site.home).filter((file) => file.startsWith("catalog")))
    rmSync(join(site.home, name));
};
const pinAlerts = async (): Promise<{ type: string; storage: string; message: string }[]> =>
  (await site.json(["alerts"])).filter(({ fingerprint }: { fingerprint: string }) =>
    fingerprint.startsWith("pin:"),
  );

async function expectHeld(reason = "audit 2026"): Promise<void> {
  const ran = await site.json(["cleanup", "--confirm", "test"]);
  expect(ran.remove).toEqual([]);
  const kept = ran.keep.filter(({ id }: Planned) => id === pinned.id);
  expect(kept.map(({ storage, reasons }: Planned) => [storage, reasons])).toEqual(
    ["one", "two"].map((name) => [name, [`pinned: ${reason}`]]),
  );
  expect(isThere()).toEqual([true, true]);
}

const FUTURE = "2099-01-01T00:00:00.000Z";

describe.each([
  ["taken off in the future", (pin: Record<string, unknown>) => Object.assign(pin, { removedAt: FUTURE })],
  [
    "taken off just now, and no more signed",
    (pin: Record<string, unknown>) => {
      pin.removedAt = new Date().toISOString();
      delete pin.signature;
    },
  ],
])("a pin that somebody wrote %s into one storage", (_what, change) => {
  test("lets go of the backup nowhere, and is a security alert until it is right", async () => {
    const good = readFileSync(pinIn("two"));
    edit("two", change);
    await expectHeld();
    expect(await pinAlerts()).toMatchObject([{ type: "SECURITY", severity: "critical", storage: "two" }]);
    loseCatalog();
    await site.json(["catalog", "rebuild"]);
    expect((await site.run("show", pinned.id)).stdout).toContain('pinned    "audit 2026"');
    await expectHeld();
    writeFileSync(pinIn("two"), good);
    await expectHeld();
    expect(await pinAlerts()).toEqual([]);
  });
});

test("a pin that cannot be read holds its backup, is said, and keeps no other one from being removed", async () => {
  await site.json(["unpin", pinned.id]);
  for (const name of ["one", "two"]) mkdirSync(join(site.folder, name, "pins"), { recursive: true });
  const other = await site.json(["backup", "config"], [3]);
  writeFileSync(pinIn("two").replace(pinned.id, other.id), "junk");
  await site.json(["backup", "config"], [3]);
  const ran = await site.run("cleanup", "--confirm", "test", "--json");
  expect([ran.code, ran.stderr]).toEqual([
    0,
    expect.stringContaining(
      `the pin of backup ${other.id} in storage two cannot be read; the backup is held`,
    ),
  ]);
  const { remove, keep } = JSON.parse(ran.stdout);
  expect(remove.map(({ id }: Planned) => id)).toContain(pinned.id);
  expect(remove.map(({ id }: Planned) => id)).not.toContain(other.id);
  expect(keep.filter(({ id }: Planned) => id === other.id)).toMatchObject([
    { reasons: ["pinned: its pin in storage two cannot be read"] },
    { reasons: ["pinned: its pin in storage two cannot be read"] },
  ]);
  expect(await pinAlerts()).toMatchObject([{ type: "INTEGRITY_FAILURE", storage: "two" }]);
  await site.json(["unpin", other.id]);
  await site.json(["cleanup", "--confirm", "test"]);
  expect(await pinAlerts()).toEqual([]);
});

test("an unpin is signed: it counts without the catalog, also where one storage did not hear of it", async () => {
  const live = readFileSync(pinIn("two"));
  await site.json(["unpin", pinned.id]);
  writeFileSync(pinIn("two"), live);
  loseCatalog();
  await site.json(["catalog", "rebuild"]);
  const ran = await site.json(["cleanup", "--confirm", "test"]);
  expect(ran.remove.map(({ id }: Planned) => id)).toContain(pinned.id);
  expect(isThere()).toEqual([false, false]);
});
