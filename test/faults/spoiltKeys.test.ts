import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { filesBelow } from "../support/files.js";
import { makeSite, type TestSite } from "../support/site.js";

let site: TestSite;
let id: string;
let round = 0;

interface Raw {
  keys: { sealed: string; recipient: string }[];
  keysSignature?: unknown;
}

/** Backups of configuration files need no server: that none answers is said, with exit 3. */
const BACKUP = ["backup", "config"];

beforeEach(async () => {
  site = await makeSite({ here: true, url: "" });
  for (const name of ["daily", "escrow"]) await site.json(["keys", "new", "--out", join(site.folder, name)]);
  mkdirSync(join(site.folder, "etc"));
  writeFileSync(join(site.folder, "etc/app.conf"), "size = 7\n");
  await configure();
  ({ id } = await site.json(BACKUP, [3]));
  return () => site.remove();
});

/** Seals for both, and holds the private key of the first alone, or of none. */
async function configure(identity: "daily" | null = "daily"): Promise<void> {
  const recipients = ["daily", "escrow"].map((name) =>
    readFileSync(join(site.folder, name, "recipient"), "utf8").trim(),
  );
  await site.configure(
    [
      "site: test",
      'database: {url: "postgresql://nobody@127.0.0.1:1/none"}',
      "configFiles: [etc]",
      "keys:",
      `  recipients: [${recipients.join(", ")}]`,
      `  signing: {file: ${join(site.folder, "daily/signing")}}`,
      ...(identity === null ? [] : [`  identity: [{file: ${join(site.folder, identity, "identity")}}]`]),
      "storages:",
      ...["one", "two"].map((name) => `  - {name: ${name}, kind: local, path: ${join(site.folder, name)}}`),
      "",
    ].join("\n"),
  );
}

const fileIn = (storage: string): string =>
  filesBelow(join(site.folder, storage)).find((file) => file.endsWith("manifest.json")) ?? "";
const textIn = (storage: string): string => readFileSync(fileIn(storage), "utf8");

function edit(storage: string, change: (raw: Raw) => void): void {
  const raw = JSON.parse(textIn(storage)) as Raw;
  change(raw);
  writeFileSync(fileIn(storage), JSON.stringify(raw));
}

/** The first key is sealed for the private key of this host. */
const spoil = ({ keys: [key] }: Raw): void => {
  if (key) key.sealed = (key.sealed.startsWith("A") ? "B" : "A") + key.sealed.slice(1);
};
const takeOut = (raw: Raw): void => void raw.keys.pop();
const takeOutOurs = (raw: Raw): void => void raw.keys.shift();
/** As versions wrote it that did not sign keys. */
const unsign = (raw: Raw): void => void delete raw.keysSignature;

async function expectRestored(): Promise<void> {
  const target = join(site.folder, `back-${++round}`);
  await site.json(["restore", id, "--config-files", "--into-dir", target, "--reason", "test"]);
  const [file = ""] = filesBelow(target).filter((path) => path.endsWith("app.conf"));
  expect(readFileSync(file, "utf8")).toBe("size = 7\n");
}

const alerts = async (): Promise<object[]> =>
  (await site.json(["alerts"])).filter(({ type }: { type: string }) => type !== "BACKUP_FAILURE");
const attack = { type: "SECURITY", severity: "critical", storage: "one" };

const problemsOf = async (...flags: string[]): Promise<string[]> =>
  (await site.json(["verify", "--all", ...flags], [0, 4])).problems.map(
    ({ storage, problem }: { storage: string; problem: string }) => `${storage} ${problem}`,
  );

describe.each([
  ["spoilt by one letter", spoil],
  ["without one of the recipients", takeOut],
  ["without the recipient that this host is", takeOutOurs],
])("keys %s in one storage", (_what, damage) => {
  test("are told on every level, nobody's private key needed, and healed from the other storage", async () => {
    const good = textIn("two");
    edit("one", damage);
    await expectRestored();
    expect(await alerts()).toMatchObject([attack]);
    await configure(null);
    expect(await problemsOf("--level", "stored")).toEqual([
      "one has keys that were changed after they were signed",
    ]);
    expect(await problemsOf("--level", "stored", "--heal")).toEqual([]);
    expect([textIn("one"), textIn("two")]).toEqual([good, good]);
    expect(await alerts()).toEqual([]);
    await configure();
    await expectRestored();
  });

  test("do not get into a storage that has lost its own", async () => {
    edit("one", damage);
    rmSync(fileIn("two"));
    expect(await problemsOf("--heal")).toEqual([
      "one has keys that were changed after they were signed",
      "two is missing",
    ]);
    expect(fileIn("two")).toBe("");
  });
});

describe("keys that an early version did not sign", () => {
  beforeEach(() => {
    for (const storage of ["one", "two"]) edit(storage, unsign);
  });

  test("open as ever, and the next rotation signs them", async () => {
    await expectRestored();
    expect(await problemsOf("--level", "sealed")).toEqual([]);
    expect(await site.json(["keys", "rotate"])).toEqual({ rewrapped: 1, failed: [] });
    expect(textIn("one")).toContain('"keysSignature"');
    await expectRestored();
    expect(await alerts()).toEqual([]);
  });

  test.each([
    ["spoilt", spoil],
    ["without ours", takeOutOurs],
  ])("and that are %s in one storage: the other is used, and heals", async (_what, damage) => {
    const good = textIn("two");
    edit("one", damage);
    await expectRestored();
    expect(await alerts()).toMatchObject([attack]);
    expect(await problemsOf("--level", "stored")).toEqual([
      "one has keys that do not open it, and those in storage two do",
    ]);
    expect(await problemsOf("--heal")).toEqual([]);
    expect([textIn("one"), textIn("two")]).toEqual([good, good]);
    expect(await alerts()).toEqual([]);
  });

  test("and that nobody here can judge are named in both, and neither is overwritten until they are sealed anew", async () => {
    edit("one", takeOut);
    const before = [textIn("one"), textIn("two")];
    const advice =
      "and nothing here tells which are right: jbackup keys rotate, where all private keys are, seals them anew";
    expect(await problemsOf("--heal")).toEqual([
      `one has other keys than storage two, ${advice}`,
      `two has other keys than storage one, ${advice}`,
    ]);
    expect([textIn("one"), textIn("two")]).toEqual(before);
    await expectRestored();
    await site.json(["keys", "rotate"]);
    expect(await problemsOf()).toEqual([]);
    expect(textIn("one")).toBe(textIn("two"));
  });

  test("and that are spoilt are not copied to a storage that has none; a rotation seals both from the good one", async () => {
    edit("one", spoil);
    const good = textIn("two");
    rmSync(fileIn("two"));
    expect(await problemsOf("--level", "stored", "--heal")).toEqual(["two is missing"]);
    expect(fileIn("two")).toBe("");
    writeFileSync(fileIn("one").replace("/one/", "/two/"), good);
    expect(await site.json(["keys", "rotate"])).toEqual({ rewrapped: 1, failed: [] });
    await expectRestored();
    expect(await problemsOf()).toEqual([]);
  });
});

test("keys of before a rotation that are put back are told, and replaced by today's", async () => {
  const older = textIn("one");
  await site.json(["keys", "rotate"]);
  writeFileSync(fileIn("one"), older);
  expect(await problemsOf()).toEqual([
    "one has older keys than storage two: a rotation did not get here, or somebody put them back",
  ]);
  expect(await alerts()).toMatchObject([attack]);
  expect(await problemsOf("--heal")).toEqual([]);
  expect(textIn("one")).toBe(textIn("two"));
  expect(textIn("one")).not.toBe(older);
});

describe("a rotation that a storage is passed over by", () => {
  test.each<[string, (marker: string) => void]>([
    ["whose marker is junk", (marker) => writeFileSync(marker, "junk")],
    [
      "that is another site's",
      (marker) => writeFileSync(marker, readFileSync(marker, "utf8").replace('"test"', '"other"')),
    ],
  ])("%s: exit 3, said until it was rotated as well", async (_what, damage) => {
    const marker = join(site.folder, "two", "jbackup-site.json");
    const [good, sealed] = [readFileSync(marker, "utf8"), textIn("two")];
    damage(marker);
    const unrotated = async () =>
      (await site.json(["alerts"])).filter(({ fingerprint }: { fingerprint: string }) =>
        fingerprint.startsWith("keys_rotation:"),
      );
    const rotated = await site.json(["keys", "rotate"], [3]);
    expect(rotated).toMatchObject({ rewrapped: 1, failed: [{ backupId: null, storage: "two" }] });
    const ran = await site.run("keys", "rotate");
    expect([ran.code, ran.stdout]).toEqual([3, expect.stringContaining("  every backup in two: ")]);
    expect(await unrotated()).toMatchObject([{ type: "SECURITY", storage: "two", status: "active" }]);
    expect(textIn("two")).toBe(sealed);
    writeFileSync(marker, good);
    expect(await site.json(["keys", "rotate"])).toEqual({ rewrapped: 1, failed: [] });
    expect(await unrotated()).toEqual([]);
    expect(textIn("two")).toBe(textIn("one"));
  });
});
