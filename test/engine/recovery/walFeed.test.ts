import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { feedWal, type WalFeed } from "../../../src/engine/recovery/walFeed.js";

let folder: string;
let feed: WalFeed;
let brought: string[];
let served: string[];
const files = ["A", "B", "C"];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "jbackup-feed-"));
  brought = [];
  served = [];
  feed = await feedWal({
    directory: join(folder, "spool"),
    owner: null,
    async get(name) {
      brought.push(name);
      if (name === "broken") throw new Error("no storage can be read");
      return files.includes(name) ? [Buffer.from(`content of ${name}`)] : null;
    },
    after: (name) => (files.includes(name) ? files.slice(files.indexOf(name) + 1) : []),
    onServed: (name) => served.push(name),
  });
});

afterEach(async () => {
  await feed.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Asks as a server does, for one file after another at once; answers the last exit code. */
async function ask(...names: string[]): Promise<number | null> {
  const line = names
    .map((name) => feed.command.replaceAll("%f", name).replaceAll("%p", join(folder, `got ${name}`)))
    .join(" && ");
  const shell = spawn("sh", ["-c", line], { stdio: "ignore" });
  const late = setTimeout(() => shell.kill("SIGKILL"), 8000);
  const [code] = await once(shell, "exit");
  clearTimeout(late);
  return code;
}

const untilReady = async (name: string): Promise<void> => {
  for (let waited = 0; waited < 200 && !existsSync(join(folder, "spool", "have", name)); waited++)
    await delay(10);
};

test.runIf(process.getuid?.() === 0)(
  "a server of another user is fed, and can put no link in root's way",
  async () => {
    const [uid, gid] = [12345, 12345];
    const place = join(folder, "open");
    await mkdir(place);
    await chmod(folder, 0o755);
    const theirs = await feedWal({
      directory: join(place, "spool"),
      owner: { uid, gid },
      get: async (name) => [Buffer.from(`content of ${name}`)],
      after: () => [],
      onServed: () => undefined,
    });
    const as = async (script: string): Promise<number | null> => {
      const [code] = await once(spawn("sh", ["-c", script], { uid, gid, stdio: "ignore" }), "exit");
      return code;
    };
    try {
      const [got, victim] = [join(folder, "theirs"), join(folder, "victim")];
      await writeFile(victim, "root's own");
      await mkdir(got);
      await chown(got, uid, gid);
      expect(await as(`ln -s ${victim} ${join(place, "spool", "~B")}`)).not.toBe(0);
      expect(await as(theirs.command.replaceAll("%f", "B").replaceAll("%p", join(got, "B")))).toBe(0);
      expect(await readFile(join(got, "B"), "utf8")).toBe("content of B");
      expect(await readFile(victim, "utf8")).toBe("root's own");
      expect((await stat(victim)).uid).toBe(0);
    } finally {
      await theirs.stop();
    }
    expect(existsSync(join(place, "spool"))).toBe(false);
  },
);

test("a file is handed over, and the next ones lie ready", async () => {
  expect(await ask("A")).toBe(0);
  expect(await readFile(join(folder, "got A"), "utf8")).toBe("content of A");
  await untilReady("C");
  expect(await ask("B", "C")).toBe(0);
  expect(brought).toEqual(["A", "B", "C"]);
  for (let waited = 0; waited < 100 && served.length < 3; waited++) await delay(10);
  expect(served.sort()).toEqual(files);
});

test("the last file is asked for again at the end of a recovery, at once, and comes again", async () => {
  await ask("A");
  await untilReady("C");
  expect(await ask("B", "C", "C", "C", "A")).toBe(0);
  expect(await ask("A", "A")).toBe(0);
});

test("what is not there ends the archive, and what cannot be had ends the recovery", async () => {
  expect(await ask("Z")).toBe(1);
  expect(await ask("Z")).toBe(1);
  expect(feed.failure).toBeNull();
  expect(await ask("broken")).toBe(200);
  expect(feed.failure?.message).toBe("no storage can be read");
});
