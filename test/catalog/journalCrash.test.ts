import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { openCatalog, withJournal } from "../../src/catalog/catalogs.js";
import { systemClock } from "../../src/sys/clock.js";
import { backupNumber } from "../contract/catalogRecords.js";
import { temporaryDirectory } from "./places.js";

const script = fileURLToPath(new URL("../contract/catalogProcess.mjs", import.meta.url));

/** Runs until `enough` says so of a line of its output, then dies without a chance to say goodbye. */
async function killedProcess(
  words: string[],
  enough: (line: string) => boolean | Promise<boolean>,
): Promise<string[]> {
  const child = spawn(process.execPath, [script, ...words], { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  const ended = once(child, "close");
  for await (const line of createInterface(child.stdout)) {
    lines.push(line);
    if (await enough(line)) child.kill("SIGKILL");
  }
  await ended;
  return lines;
}

describe("a process killed", () => {
  it("while it journals loses nothing that it was promised", async () => {
    const directory = await temporaryDirectory();
    const [url, journal] = [`sqlite:${directory}/catalog.db`, join(directory, "journal")];
    const promised = await killedProcess([url, "journal", journal], (line) => Number(line) > 30);
    expect(promised.length).toBeGreaterThan(30);
    const open = () => openCatalog(url, { clock: systemClock });
    const catalog = withJournal(open, journal, { clock: systemClock, location: url });
    const stored = new Set((await catalog.backups()).map((backup) => backup.id));
    expect(promised.filter((number) => !stored.has(backupNumber(Number(number)).id))).toEqual([]);
    expect(await readdir(journal)).toEqual([]);
    await catalog.close();
  });

  it("while it replays leaves the journal to the next", async () => {
    const directory = await temporaryDirectory();
    const [url, journal] = [`sqlite:${directory}/catalog.db`, join(directory, "journal")];
    const numbers = Array.from({ length: 3_000 }, (_, number) => number);
    const lines = numbers.map((number) =>
      JSON.stringify({ v: 1, write: "saveBackups", record: [backupNumber(number)] }),
    );
    await mkdir(journal);
    await writeFile(join(journal, "1.jsonl"), `${lines.join("\n")}\n`);
    const bare = await openCatalog(url, { clock: systemClock });
    const someAreIn = async (): Promise<boolean> => {
      while ((await bare.backups({ limit: 1 })).length === 0) await pause(2);
      return true;
    };
    await killedProcess([url, "replay", journal], someAreIn);
    const [left = ""] = await readdir(journal);
    expect(left).toMatch(/^1\.jsonl\.claimed-/);
    const half = await bare.backups();
    expect(half.length).toBeGreaterThan(0);
    expect(half.length).toBeLessThan(numbers.length);
    const open = () => Promise.resolve(bare);
    const catalog = withJournal(open, journal, { clock: systemClock, location: url });
    expect(await catalog.backups()).toHaveLength(numbers.length);
    expect(await readdir(journal)).toEqual([]);
    await catalog.close();
  });
});
