import type { Backup, Run, VerificationLevel } from "../../domain/backup.js";
import { parseCron, previousRun } from "../../domain/cron.js";
import { type Age, finding, judgeAge } from "../../domain/diagnosis.js";
import { SCHEDULED, type ScheduledName } from "../../domain/schedule.js";
import { drillsOf } from "../alerts/drills.js";
import type { Site } from "../site.js";
import { ageOf, type Check, type Diagnosed } from "./check.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const LOOK_BACK = 50;

type Scheduled = keyof Site["config"]["schedule"];

/** How long it may be ago: by its own schedule where it has one, else what any site needs. */
interface Expectation {
  name: string;
  what: string;
  at: string | undefined;
  by?: Scheduled;
  warnDays: number;
  failDays?: number;
  never?: Age["never"];
  hint: string;
}

/** What was done last, and how long ago: nothing protects that was not done lately. */
export const proof: Check = {
  group: "proof",
  name: "proof",
  look: async (site) => {
    const expected: Expectation[] = [
      {
        name: "full",
        what: "full backup",
        at: await newest(site, "full"),
        by: "full",
        warnDays: 1.5,
        failDays: 7,
        never: "fail",
        hint: "jbackup backup full",
      },
      ...(site.config.tenants === undefined
        ? []
        : [
            {
              name: "tenant",
              what: "backup of tenants",
              at: await lastWhole(site, "tenant", () => newest(site, "tenant")),
              by: "tenant" as const,
              warnDays: 8,
              hint: "jbackup backup tenant --all",
            },
          ]),
      {
        name: "config",
        what: "backup of configuration files",
        at: await newest(site, "config"),
        by: "config",
        warnDays: 7,
        hint: "jbackup backup config",
      },
      {
        name: "verify",
        what: "verification",
        at: await lastWhole(site, "verify", () => passed(site)),
        by: "verify",
        warnDays: 7,
        hint: "jbackup verify --all --heal",
      },
      {
        name: "test-restore",
        what: "test restore",
        at: await passed(site, "restore"),
        by: "testRestore",
        warnDays: 35,
        hint: "jbackup verify --level restore",
      },
      {
        name: "drill",
        what: "drill",
        at: (await drillsOf(site)).good?.startedAt,
        by: "drill",
        warnDays: site.config.objectives.drillEveryMs / DAY_MS,
        hint: "jbackup dr run server-lost --drill",
      },
    ];
    return [...expected.map((one) => judged(site, one)), await walAge(site)];
  },
};

function judged(
  site: Site,
  { name, what, at, by, warnDays, failDays, never = "warn", hint }: Expectation,
): Diagnosed {
  const everyMs = by === undefined ? null : intervalMs(site, by);
  const limitMs = (days: number, times: number): number =>
    everyMs === null ? days * DAY_MS : Math.max(times * everyMs, HOUR_MS);
  return judgeAge({
    group: "proof",
    name,
    what,
    ageMs: ageOf(site, at),
    warnAfterMs: limitMs(warnDays, 1.5),
    failAfterMs: failDays === undefined ? null : limitMs(failDays, 4),
    never,
    hint,
  });
}

/** Between the last two times at which it was due. */
function intervalMs(site: Site, name: Scheduled): number | null {
  const parsed = parseCron(site.config.schedule[name] ?? "");
  if (!parsed.ok) return null; // not scheduled, or not by a cron line
  const last = previousRun(parsed.cron, site.clock.now());
  const before = previousRun(parsed.cron, new Date(last.getTime() - MINUTE_MS));
  return last.getTime() - before.getTime();
}

const newest = async (site: Site, kind: Backup["kind"]): Promise<string | undefined> =>
  (await site.catalog.backups({ kind, status: ["completed", "verified"], limit: 1 }))[0]?.createdAt;

async function passed(site: Site, level?: VerificationLevel): Promise<string | undefined> {
  const made = await site.catalog.verifications({ ...(level ? { level } : {}), limit: LOOK_BACK });
  return made.find(({ status }) => status === "passed")?.checkedAt;
}

/** The last run of all that a job is for. Where none is recorded at all, as after a rebuild, what is stored tells. */
async function lastWhole(
  site: Site,
  name: ScheduledName,
  stored: () => Promise<string | undefined>,
): Promise<string | undefined> {
  const { job } = SCHEDULED[name];
  const status: Run["status"][] = ["succeeded", "partial"];
  const [whole] = await site.catalog.runs({ job, status, scope: "whole", limit: 1 });
  if (whole !== undefined) return whole.startedAt;
  const [any] = await site.catalog.runs({ job, limit: 1 });
  return any === undefined ? stored() : undefined;
}

/** How much would be lost now, by the last WAL that arrived. */
async function walAge(site: Site): Promise<Diagnosed> {
  const [running] = await site.catalog.runs({ job: SCHEDULED.wal.job, status: ["running"], limit: 1 });
  if (running !== undefined) return finding("proof", "wal", "ok", "WAL is being archived just now");
  const [last] = await site.catalog.runs({
    job: SCHEDULED.wal.job,
    status: ["succeeded", "partial"],
    limit: 1,
  });
  if (last === undefined && site.config.schedule.wal === undefined)
    return finding(
      "proof",
      "wal",
      "warn",
      "no WAL is archived: whatever came after the last full backup would be lost",
      'jbackup backup wal, and schedule: {wal: "*/5 * * * *"} in jbackup.yaml',
    );
  const { rpoMs } = site.config.objectives;
  return judgeAge({
    group: "proof",
    name: "wal",
    what: "pass over the WAL",
    ageMs: ageOf(site, last?.finishedAt),
    warnAfterMs: 2 * rpoMs, // the pass itself and its interval
    failAfterMs: Math.max(4 * rpoMs, HOUR_MS),
    never: "fail",
    hint: "jbackup backup wal",
  });
}
