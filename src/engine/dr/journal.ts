import { open, readdir, readFile, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Drill } from "../../domain/backup.js";
import { JBackupError } from "../../domain/errors.js";
import { advance, type RunEvent, type RunState, replay } from "../../domain/runbookRun.js";
import { makeDirectory, syncDirectory } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";

type Untimed<Event> = Event extends { at: string } ? Omit<Event, "at"> : never;
export type NewEvent = Untimed<RunEvent>;

/** A run as its journal tells it: on disk first, where it survives anything, then in the catalog for everybody else. */
export interface RunJournal {
  readonly folder: string;
  readonly state: RunState;
  readonly events: readonly RunEvent[];
  /** Once this resolves, the event survives a power cut. */
  write(event: NewEvent): Promise<void>;
}

const runsFolder = (site: Site): string => join(site.config.home, "dr");
const FILE = "journal.jsonl";

export async function createJournal(site: Site, run: string): Promise<RunJournal> {
  const folder = join(runsFolder(site), run);
  await makeDirectory(folder);
  return journalOn(site, folder, []);
}

/** A line that a power cut tore in two was never told to anybody: it goes. */
async function readEvents(folder: string): Promise<RunEvent[]> {
  const file = join(folder, FILE);
  const text = await readFile(file, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  if (whole.length < text.length) await truncate(file, Buffer.byteLength(whole));
  return whole
    .split("\n")
    .filter((line) => line !== "")
    .map((line, at) => {
      try {
        return JSON.parse(line) as RunEvent;
      } catch (error) {
        throw new JBackupError("failed", `line ${at + 1} of ${file} is damaged`, {
          hint: "begin the runbook anew; the report of this run can no longer be made",
          cause: error,
        });
      }
    });
}

/** From this host's disk, or, when another host began it, from the catalog. */
export async function openJournal(site: Site, run: string): Promise<RunJournal> {
  const folder = join(runsFolder(site), run);
  try {
    return journalOn(site, folder, await readEvents(folder));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const row = (await site.catalog.drills()).find(({ id }) => id === run);
  const events = row?.metadata.events;
  if (!Array.isArray(events))
    throw new JBackupError("not_found", `there is no run ${run}`, {
      hint: "jbackup dr report lists the runs",
    });
  const journal = await createJournal(site, run);
  const known = events as RunEvent[];
  await appendLines(folder, known);
  return journalOn(site, journal.folder, known);
}

/** The runs on this host and in the catalog, newest first; their ids grow with time. */
export async function knownRuns(site: Site): Promise<string[]> {
  const here = await readdir(runsFolder(site)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const there = (await site.catalog.drills()).map(({ id }) => id);
  return [...new Set([...here, ...there])].sort().reverse();
}

async function appendLines(folder: string, events: RunEvent[]): Promise<void> {
  const file = await open(join(folder, FILE), "a", 0o600);
  try {
    const { size } = await file.stat();
    try {
      await file.writeFile(events.map((event) => `${JSON.stringify(event)}\n`).join(""));
      await file.sync();
    } catch (error) {
      await file.truncate(size); // the next line must not follow half a one, nor one that a power cut may take
      throw error;
    }
  } finally {
    await file.close();
  }
}

function journalOn(site: Site, folder: string, known: RunEvent[]): RunJournal {
  const events = [...known];
  let state = replay(events);
  // one line at a time, whatever runs side by side
  let last: Promise<void> = Promise.resolve();
  const append = async (event: RunEvent): Promise<void> => {
    const isFirst = events.length === 0;
    await appendLines(folder, [event]);
    if (isFirst) await syncDirectory(folder);
    events.push(event);
    state = advance(state, event);
    await site.catalog.saveDrill(rowOf(state, events, folder));
  };
  return {
    folder,
    get state() {
      return state;
    },
    events,
    write(event) {
      const written = last.then(() => append({ at: site.clock.now().toISOString(), ...event } as RunEvent));
      last = written.catch(() => undefined); // told to whoever wrote it
      return written;
    },
  };
}

const STATUS: Record<RunState["phase"], Drill["status"]> = {
  new: "running",
  running: "running",
  aborting: "running",
  stopped: "failed",
  succeeded: "succeeded",
  aborted: "aborted",
};

function rowOf(state: RunState, events: RunEvent[], folder: string): Drill {
  return {
    id: state.run,
    runbook: state.runbook,
    drill: state.isDrill,
    status: STATUS[state.phase],
    startedAt: state.startedAt,
    finishedAt: state.endedAt ?? (state.phase === "stopped" ? (events.at(-1)?.at ?? null) : null),
    rtoMs: state.rtoMs,
    rpoMs: state.rpoMs,
    steps: [...state.steps].map(([name, { status, durationMs }]) => ({ name, status, durationMs })),
    initiatedBy: state.by[0] ?? "",
    metadata: { hash: state.hash, folder, events },
  };
}
