import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Run } from "../../domain/backup.js";
import { type FindingStatus, finding, type JobFacts, judgeSchedule } from "../../domain/diagnosis.js";
import { isJBackupError } from "../../domain/errors.js";
import { FOLLOW, FOLLOW_WORDS, SCHEDULED, type ScheduledName, timedJobs } from "../../domain/schedule.js";
import { runProgram } from "../../sys/aside.js";
import { drillRuns } from "../alerts/drills.js";
import { firstSeen, missedSlot } from "../alerts/watch.js";
import { AUDIT_HINT, auditProblems } from "../auditFindings.js";
import { examineAudit } from "../auditWitnesses.js";
import { isDaemonRunning } from "../schedule/show.js";
import type { Site } from "../site.js";
import type { Check } from "./check.js";

/** It is opened, and with that brought up to date; what waited for it is written. */
export const catalog: Check = {
  group: "catalog",
  name: "catalog",
  look: async (site) => {
    await site.catalog.runs({ limit: 1 });
    const waiting = (await readdir(join(site.config.home, "journal")).catch(() => [])).length; // none yet
    return [
      finding(
        "catalog",
        "catalog",
        "ok",
        `the catalog at ${site.catalog.location} answers, and its tables are up to date`,
      ),
      ...(waiting === 0
        ? []
        : [
            finding(
              "catalog",
              "journal",
              "warn",
              "records still wait in the journal to be written into the catalog",
              "the next command that writes brings them in; jbackup catalog rebuild reads the rest from the storages",
            ),
          ]),
    ];
  },
};

/** By itself, for it asks the storages what signed manifests know. */
export const audit: Check = {
  group: "catalog",
  name: "audit",
  look: async (site) => {
    const state = await examineAudit(site).catch((error: unknown) => {
      if (isJBackupError(error, "catalog_unavailable")) return null; // told by the check of the catalog
      throw error;
    });
    if (state === null) return [];
    const found = (status: FindingStatus, message: string, hint: string | null = null) =>
      finding("catalog", "audit", status, message, hint);
    const problems = auditProblems(state).map((problem) => ({
      ...found("fail", problem, AUDIT_HINT),
      exit: 4 as const,
    }));
    if (problems.length > 0) return problems;
    const { gaps, entries, confirmed } = state;
    const witness = confirmed === null ? "" : `, as ${confirmed.label} knew it`;
    return [
      found("ok", `the log of who did what is unbroken (${entries} entries${witness})`),
      ...gaps.map(({ rebuiltAt, rebuiltBy, label }) =>
        found(
          "warn",
          `the log of who did what lacks what ${label} knew, since the rebuild of ${rebuiltAt} by ${rebuiltBy}`,
          "if that rebuild was not yours, find out who can write to the catalog: jbackup audit check",
        ),
      ),
    ];
  },
};

export const schedule: Check = {
  group: "schedule",
  name: "schedule",
  look: async (site) => {
    const since = await firstSeen(site);
    const now = site.clock.now();
    const jobs: JobFacts[] = [];
    for (const { name, cron } of timedJobs(site.config.schedule)) {
      const { job, words } = SCHEDULED[name];
      const done = await lastDone(site, name);
      const missed = done?.status === "running" ? null : missedSlot(cron, done, since, now);
      jobs.push({
        job,
        command: words.join(" "),
        missedAt: missed?.toISOString() ?? null,
        ranAt: done?.startedAt ?? null,
      });
    }
    if (site.config.schedule.wal === FOLLOW) {
      const { job } = SCHEDULED.wal;
      const [last] = await site.catalog.runs({ job, scope: "whole", limit: 1 });
      // that it is away is told by its age
      jobs.push({
        job,
        command: FOLLOW_WORDS.join(" "),
        missedAt: null,
        ranAt: last?.startedAt ?? null,
      });
    }
    return judgeSchedule(jobs, await runnersHere(site));
  },
};

const DONE: Run["status"][] = ["succeeded", "partial", "running"];

async function lastDone(site: Site, name: ScheduledName): Promise<Run | undefined> {
  if (name === "drill") return (await drillRuns(site)).find(({ status }) => DONE.includes(status));
  const { job } = SCHEDULED[name];
  return (await site.catalog.runs({ job, status: DONE, scope: "whole", limit: 1 }))[0];
}

/** Who would start jobs on this host, as far as it shows. */
async function runnersHere(site: Site): Promise<string[]> {
  const { path } = site.environment;
  const { signal } = site;
  const [isDaemon, timers, crontab, cronFiles] = await Promise.all([
    isDaemonRunning(site),
    runProgram("systemctl", ["list-units", "--all", "--plain", "--no-legend", "jbackup*"], {
      path,
      signal,
      timeoutMs: 5_000,
    }),
    runProgram("crontab", ["-l"], { path, signal, timeoutMs: 5_000 }),
    readdir("/etc/cron.d").catch(() => []), // no cron here
  ]);
  const isInCrontab = (crontab?.stdout ?? "")
    .split("\n")
    .some((line) => !line.trimStart().startsWith("#") && line.includes("jbackup"));
  return [
    ...(isDaemon ? ["jbackup schedule run"] : []),
    ...(timers?.code === 0 && timers.stdout.includes("jbackup") ? ["systemd"] : []),
    ...(isInCrontab || cronFiles.some((name) => name.includes("jbackup")) ? ["cron"] : []),
  ];
}

export const alerts: Check = {
  group: "alerts",
  name: "alerts",
  look: async (site) => {
    const { channels } = site.config.alerts;
    const entries = await site.catalog.audit(1_000, "alerts.test");
    const untried: string[] = [];
    for (const { name } of channels) {
      const isTested = entries.some(({ subject }) => subject === name);
      const [sent] = isTested
        ? []
        : await site.catalog.deliveries({ channel: name, status: ["sent"], limit: 1 });
      if (!isTested && sent === undefined) untried.push(name);
    }
    const open = await site.catalog.alerts({
      status: ["active"],
      severity: ["critical", "error"],
      limit: 100,
    });
    return [
      channels.length === 0
        ? finding(
            "alerts",
            "channels",
            "warn",
            "no channel is configured: what goes wrong is written down, and nobody is told",
            "add one to alerts.channels in jbackup.yaml: kind email, webhook or sms; then jbackup alerts test",
          )
        : untried.length === 0
          ? finding(
              "alerts",
              "channels",
              "ok",
              `${channels.map(({ name }) => name).join(", ")} delivered messages`,
            )
          : finding(
              "alerts",
              "channels",
              "warn",
              `nothing was ever sent through ${untried.join(", ")}`,
              "jbackup alerts test",
            ),
      open.length === 0
        ? finding("alerts", "open", "ok", "no error is open")
        : finding(
            "alerts",
            "open",
            "warn",
            `${open.length} ${open.length === 1 ? "error is" : "errors are"} open, the newest: ${open[0]?.message}`,
            "jbackup alerts",
          ),
    ];
  },
};
