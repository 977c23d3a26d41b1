import type { HealthReason, HealthState } from "../domain/health.js";
import { openHole } from "../domain/walWindow.js";
import type { JobStatus, SiteStatus, StorageStatus } from "../engine/status.js";
import type { Paint } from "./output.js";
import { sparkline } from "./sparkline.js";
import { type Column, shortened, tableText, widthOf } from "./table.js";
import { agoText, bytesText, countedText, countText, durationText } from "./text.js";
import { windowBar } from "./wizards/windowText.js";

export interface ScreenWish {
  paint: Paint;
  columns: number;
  /** Whether the terminal shows more than ASCII. */
  isUnicode: boolean;
}

type Painter = (text: string) => string;

const MOST_REASONS = 6;
const WIDEST_BAR = 66;

/** What a tired person needs to know, the worst first. */
export function statusScreen(status: SiteStatus, wish: ScreenWish): string {
  const now = new Date(status.at);
  return [
    head(status, wish),
    ...reasonLines(status, wish),
    ...nextLines(status, wish),
    "",
    jobTable(status.jobs, now, wish),
    "",
    storageTable(status.storages, now, wish),
    ...status.storages.flatMap((storage) => troubleOf(storage, wish)),
    "",
    ...windowLines(status, now, wish),
    ...objectiveLines(status, now, wish),
  ].join("\n");
}

export const stateColour = (state: HealthState, paint: Paint): Painter =>
  state === "ok" ? paint.green : state === "warning" ? paint.yellow : paint.red;

function head({ site, at, health, alerts }: SiteStatus, { paint, columns }: ScreenWish): string {
  const state = `${health.score} of 100, ${health.state}`;
  const open = alerts.length === 0 ? "" : `, ${countedText(alerts.length, "open alert")}`;
  const time = `${at.slice(0, 10)} ${at.slice(11, 16)} UTC`;
  const places = Number.isFinite(columns) ? columns : 80;
  const room = places - widthOf(state) - widthOf(open) - 2;
  const name = shortened(site, Math.max(8, room));
  const gap = places - widthOf(name) - 2 - widthOf(state) - widthOf(open) - time.length;
  const left = `${paint.bold(name)}  ${stateColour(health.state, paint)(state)}${paint.red(open)}`;
  return gap >= 2 ? left + " ".repeat(gap) + time : left;
}

function reasonLines({ health }: SiteStatus, { paint, columns }: ScreenWish): string[] {
  const colours: Record<HealthReason["severity"], Painter> = {
    info: (text) => text,
    warning: paint.yellow,
    critical: paint.red,
  };
  const lines = health.reasons
    .slice(0, MOST_REASONS)
    .map(({ points, message, severity }) =>
      colours[severity](shortened(`  ${String(-points).padStart(3)}  ${message}`, columns)),
    );
  const more = health.reasons.length - MOST_REASONS;
  return more > 0 ? [...lines, `       and ${more} more: jbackup status --json shows all`] : lines;
}

const nextLines = ({ next }: SiteStatus, { paint }: ScreenWish): string[] =>
  next === null ? [] : [`${paint.bold("Next:")} ${next.command}`];

const ago = (at: string | null, now: Date): string => (at === null ? "never" : agoText(at, now));
const soon = (at: string, now: Date): string => agoText(at, now).replace("just now", "in < 1 min");
/** "1 h" rather than "1 h 0 min". */
const spanText = (ms: number): string => durationText(ms).replace(/ 0 (s|min)$/, "");
/** In tables the heading says that it is an age. */
const age = (at: string | null, now: Date): string =>
  at === null ? "never" : agoText(at, now).replace(/ ago$/, "").replace("just now", "now");

function jobTable(jobs: JobStatus[], now: Date, { paint, columns }: ScreenWish): string {
  if (jobs.length === 0) return "Nothing ran yet, and nothing is scheduled.";
  const result = ({ lastRun }: JobStatus): string => lastRun?.status ?? "-";
  const table: Column<JobStatus>[] = [
    { title: "JOB", value: ({ name }) => name, rank: 0 },
    {
      title: "LAST GOOD",
      value: ({ lastGoodAt, lastRun }) =>
        lastGoodAt === null && lastRun?.status === "running" ? "-" : ago(lastGoodAt, now),
      rank: 0,
      paint: (text) => (text === "never" ? paint.yellow(text) : text),
    },
    {
      title: "LAST RUN",
      value: result,
      rank: 1,
      paint: (text, job) => (["failed", "interrupted"].includes(result(job)) ? paint.red(text) : text),
    },
    {
      title: "NEXT",
      value: ({ nextAt, missedAt }) =>
        missedAt !== null ? `missed ${ago(missedAt, now)}` : nextAt === null ? "-" : soon(nextAt, now),
      rank: 0,
      paint: (text, { missedAt }) => (missedAt === null ? text : paint.red(text)),
    },
    { title: "SCHEDULE", value: ({ schedule }) => schedule ?? "none", rank: 2 },
  ];
  return tableText(jobs, table, columns, paint.bold);
}

function storageTable(
  storages: StorageStatus[],
  now: Date,
  { paint, columns, isUnicode }: ScreenWish,
): string {
  const table: Column<StorageStatus>[] = [
    {
      title: "STORAGE",
      value: ({ name }) => name,
      rank: 0,
      most: 24,
      paint: (text, { reachable }) => (reachable === false ? paint.red(text) : text),
    },
    {
      title: "COPIES",
      value: copiesText,
      rank: 0,
      paint: (text, { copies }) =>
        copies.damaged > 0 ? paint.red(text) : copies.missing > 0 ? paint.yellow(text) : text,
    },
    { title: "LAST FULL", value: ({ lastFullAt }) => age(lastFullAt, now), rank: 1 },
    { title: "VERIFIED", value: ({ verifiedAt }) => age(verifiedAt, now), rank: 2 },
    { title: "TESTED", value: ({ testRestoredAt }) => age(testRestoredAt, now), rank: 4 },
    { title: "USED", value: ({ usedBytes }) => bytesText(usedBytes), align: "right", rank: 1 },
    {
      title: "30 DAYS",
      value: ({ history }) =>
        sparkline(
          history.map(({ bytes }) => bytes),
          8,
          isUnicode,
        ),
      rank: 5,
    },
    {
      title: "FILLED",
      value: fullText,
      rank: 3,
      paint: (text, one) =>
        (one.filledPercent ?? 0) >= 90 || (one.daysUntilFull ?? 99) < 7 ? paint.red(text) : text,
    },
  ];
  return tableText(storages, table, columns, paint.bold);
}

function copiesText({ copies: { stored, missing, damaged } }: StorageStatus): string {
  const wrong = [missing > 0 ? `${missing} missing` : "", damaged > 0 ? `${damaged} damaged` : ""];
  const told = wrong.filter((text) => text !== "").join(", ");
  return told === "" ? countText(stored) : `${countText(stored)} (${told})`;
}

const fullText = ({ filledPercent, daysUntilFull, growthBytesPerDay }: StorageStatus): string =>
  [
    filledPercent === null ? "" : `${filledPercent} %`,
    daysUntilFull === null ? "" : daysUntilFull > 999 ? "> 999 d" : `in ${daysUntilFull} d`,
    filledPercent === null && daysUntilFull === null && growthBytesPerDay !== null
      ? `${bytesText(Math.max(0, growthBytesPerDay))}/d`
      : "",
  ]
    .filter((text) => text !== "")
    .join(", ") || "-";

function troubleOf({ name, error, reachable }: StorageStatus, { columns }: ScreenWish): string[] {
  // what is away is among the reasons
  return error === null || reachable === false
    ? []
    : [shortened(`${name} is not asked from here: ${error}`, columns)];
}

function windowLines({ window }: SiteStatus, now: Date, { paint, columns }: ScreenWish): string[] {
  const title = paint.bold("PITR");
  if (window === null) return [`${title}  no moment but the ends of the backups can be reached`];
  const places = Math.min(WIDEST_BAR, (Number.isFinite(columns) ? columns : 80) - 8);
  const hole = openHole(window.bases);
  const minute = (at: string): string => `${at.slice(0, 10)} ${at.slice(11, 16)}`;
  const from = minute(window.from.at);
  return [
    `${title}  ${windowBar(window.bases, places)}`,
    `      any moment from ${from} to ${ago(window.to.at, now)}${window.source === "catalog" ? ", by the catalog" : ""}`,
    ...(hole === null ? [] : [paint.red(shortened(`      missing: ${hole}`, columns))]),
    ...window.lost
      .slice(0, 2)
      .map((lost) => shortened(`      not between ${minute(lost.from)} and ${minute(lost.to)}`, columns)),
  ];
}

function objectiveLines({ rpo, rto }: SiteStatus, now: Date, { paint }: ScreenWish): string[] {
  const isLate = rpo.nowMs !== null && rpo.nowMs > 2 * rpo.objectiveMs;
  const rpoText =
    rpo.nowMs === null
      ? "nothing is stored yet"
      : `${(isLate ? paint.red : String)(spanText(rpo.nowMs))} would be lost now`;
  const by = rpo.source === "follower" ? ", followed" : rpo.source === "backup" ? ", no WAL since" : "";
  const rtoText =
    rto.lastMs === null
      ? "no recovery was measured yet"
      : `${(rto.lastMs > rto.objectiveMs ? paint.red : String)(spanText(rto.lastMs))} took the last ${rto.source}, ${ago(rto.at, now)}`;
  return [
    `${paint.bold("RPO")}   ${rpoText}${by} (objective ${spanText(rpo.objectiveMs)})`,
    `${paint.bold("RTO")}   ${rtoText} (objective ${spanText(rto.objectiveMs)})`,
  ];
}
