import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
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
