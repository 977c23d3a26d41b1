import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ConfigRecord } from "../../../src/domain/configBackup.js";
import { accountsHere } from "../../../src/engine/configFiles/accounts.js";
import { type PlaceWish, placeFile, placeLink, settle } from "../../../src/engine/configFiles/place.js";
import type { Site } from "../../../src/engine/site.js";
import { canMount, mountSmallDisk } from "../../support/tmpfs.js";

const site = {
  environment: { path: process.env.PATH ?? "" },
  signal: new AbortController().signal,
} as unknown as Site;
const lost: string[] = [];
let [root, folder, victim, wish] = ["", "", "", {} as PlaceWish];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "jbackup-place-"));
  folder = join(root, "etc");
  victim = join(root, "victim");
  mkdirSync(folder);
  writeFileSync(victim, "secret", { mode: 0o600 });
  lost.length = 0;
  wish = {
    placeOf: (path) => ({ base: root, below: path.slice(root.length) }),
    accounts: await accountsHere(),
    keepIn: null,
    isDurable: true,
    onLost: (what) => lost.push(what),
  };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const owned = (name: string) => ({
  path: join(folder, name),
  mode: 0o644,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  user: null,
  group: null,
  mtimeMs: 1_600_000_000_123.456,
});
const fileRecord = (name: string): ConfigRecord & { kind: "file" } => ({
  ...owned(name),
  kind: "file",
  bytes: 3,
  entry: `files/${name}`,
});

async function* said(text: string, before: () => void = () => undefined) {
  before();
  yield Buffer.from(text);
}

const modeOf = (path: string): number => lstatSync(path).mode & 0o7777;

test("a file and a link get their mode and time, and nothing is left beside them", async () => {
  await placeFile(site, wish, fileRecord("a"), said("one"));
  await placeLink(site, wish, { ...owned("l"), kind: "link", target: "nowhere" });
  expect([modeOf(join(folder, "a")), readFileSync(join(folder, "a"), "utf8")]).toEqual([0o644, "one"]);
  for (const name of ["a", "l"])
    expect(lstatSync(join(folder, name)).mtimeMs).toBeCloseTo(1_600_000_000_123.456, 2);
  expect(readdirSync(folder).sort()).toEqual(["a", "l"]);
});

test.each(["a link", "a file"])("%s put over the temporary is neither changed nor believed", async (what) => {
  const before = lstatSync(victim);
  const swap = (): void => {
    const temporary = join(folder, readdirSync(folder)[0] ?? "");
    const other = join(folder, "other");
    if (what === "a link") symlinkSync(victim, other);
    else writeFileSync(other, "forged", { mode: 0o600 });
    renameSync(other, temporary);
  };
  await expect(placeFile(site, wish, fileRecord("a"), said("one", swap))).rejects.toMatchObject({
    exitCode: 14,
    message: expect.stringContaining("was replaced by somebody else"),
  });
  const after = lstatSync(victim);
  expect([after.mode, after.mtimeMs, after.ctimeMs]).toEqual([before.mode, before.mtimeMs, before.ctimeMs]);
  if (what === "a file") expect(modeOf(join(folder, "a"))).toBe(0o600);
});

test("what became a link since it was compared is not followed", async () => {
  symlinkSync(victim, join(folder, "a"));
  await settle(site, wish, fileRecord("a"));
  expect([modeOf(victim), lost]).toEqual([0o600, ["owner"]]);
  rmSync(join(folder, "a"));
  mkdirSync(join(folder, "d"));
  chmodSync(join(folder, "d"), 0o700);
  await settle(site, wish, { ...owned("d"), kind: "dir", mode: 0o750 });
  expect(modeOf(join(folder, "d"))).toBe(0o750);
});

test.runIf(canMount)(
  "what is replaced is kept on another disk with its mode and owner, a link as a link",
  async () => {
    using disk = mountSmallDisk("4m");
    wish.keepIn = join(disk.path, "replaced");
    for (const name of ["a", "l"]) rmSync(join(folder, name), { force: true });
    writeFileSync(join(folder, "a"), "old", { mode: 0o640 });
    chownSync(join(folder, "a"), 12345, 12345);
    symlinkSync(victim, join(folder, "l"));
    await placeFile(site, wish, fileRecord("a"), said("new"));
    await placeFile(site, wish, fileRecord("l"), said("new"));
    const [kept, link] = ["a", "l"].map((name) => `${wish.keepIn}${join(folder, name)}`) as [string, string];
    const { uid, gid } = lstatSync(kept);
    expect([readFileSync(kept, "utf8"), modeOf(kept), uid, gid]).toEqual(["old", 0o640, 12345, 12345]);
    expect(readlinkSync(link)).toBe(victim);
    expect([readFileSync(victim, "utf8"), modeOf(victim)]).toEqual(["secret", 0o600]);
    for (const name of ["a", "l"]) expect(readFileSync(join(folder, name), "utf8")).toBe("new");
  },
);
