import type { ExitCode } from "./errors.js";

export const GROUPS = [
  "configuration",
  "files",
  "server",
  "storages",
  "keys",
  "catalog",
  "schedule",
  "proof",
  "tenants",
  "alerts",
] as const;
export type Group = (typeof GROUPS)[number];

export type FindingStatus = "ok" | "warn" | "fail";

/** One precondition: how it is, and the command that puts it right. */
export interface Finding {
  group: Group;
  /** Short and stable: for scripts. */
  name: string;
  status: FindingStatus;
  /** The cause where it is not ok. */
  message: string;
  /** A sentence with the command that fixes it. */
  hint: string | null;
  /** What `--fix` has done about it. */
  fixed: string | null;
  /** The exit code where nothing else fails. */
  exit?: ExitCode;
}

export const finding = (
  group: Group,
  name: string,
  status: FindingStatus,
  message: string,
  hint: string | null = null,
): Finding => ({ group, name, status, message, hint: status === "ok" ? null : hint, fixed: null });

export const countOf = (findings: readonly Finding[], status: FindingStatus): number =>
  findings.filter((one) => one.status === status).length;

export const worstOf = (findings: readonly Finding[]): FindingStatus =>
  countOf(findings, "fail") > 0 ? "fail" : countOf(findings, "warn") > 0 ? "warn" : "ok";

/** 0 when nothing fails. What fails for one reason ends with the code of that reason, anything else with 1. */
export function exitOf(findings: readonly Finding[]): ExitCode {
  const codes = new Set(findings.filter(({ status }) => status === "fail").map(({ exit }) => exit ?? 1));
  const [only] = codes;
  if (only === undefined) return 0;
  return codes.size === 1 ? only : 1;
}

export const inOrder = (findings: readonly Finding[]): Finding[] =>
  GROUPS.flatMap((group) => findings.filter((one) => one.group === group));

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
export const CLOCKS_APART_MS = 5 * MINUTE_MS;

/** "3 minutes", "5 hours", "12 days". */
export function spanText(ms: number): string {
  const [unit, many] =
    ms >= 2 * DAY_MS
      ? ["day", ms / DAY_MS]
      : ms >= 2 * HOUR_MS
        ? ["hour", ms / HOUR_MS]
        : ["minute", ms / MINUTE_MS];
  const whole = Math.max(0, Math.floor(many as number));
  return `${whole} ${unit}${whole === 1 ? "" : "s"}`;
}

export const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

export function judgeClock(group: Group, what: string, apartMs: number): Finding {
  const name = "clock";
  const apart = Math.abs(apartMs);
  if (apart <= CLOCKS_APART_MS)
    return finding(group, name, "ok", `the clock of ${what} agrees with this host's`);
  return finding(
    group,
    name,
    "fail",
    `the clock of ${what} is ${spanText(apart)} ${apartMs > 0 ? "ahead of" : "behind"} this host's: ages and targets in time cannot be trusted`,
    "set the clocks right on both: timedatectl set-ntp true",
  );
}

/** How long ago something was last done well; null: never. */
export interface Age {
  group: Group;
  name: string;
  what: string;
  ageMs: number | null;
  warnAfterMs: number;
  failAfterMs: number | null;
  /** What it is when it never was done. */
  never: FindingStatus;
  hint: string;
}

export function judgeAge({ group, name, what, ageMs, warnAfterMs, failAfterMs, never, hint }: Age): Finding {
  if (ageMs === null) return finding(group, name, never, `there is no ${what} yet`, hint);
  const status = failAfterMs !== null && ageMs > failAfterMs ? "fail" : ageMs > warnAfterMs ? "warn" : "ok";
  return finding(group, name, status, `the last ${what} was ${spanText(ageMs)} ago`, hint);
}

export interface RoomFacts {
  storage: string;
  freeBytes: number;
  /** What the next backup is expected to take. */
  expectedBytes: number;
}

export function judgeRoom({ storage, freeBytes, expectedBytes }: RoomFacts): Finding {
  const name = `space-${storage}`;
  if (freeBytes >= 3 * expectedBytes)
    return finding(
      "storages",
      name,
      "ok",
      `storage ${storage} has ${gigabytes(freeBytes)} free; a whole backup takes about ${gigabytes(expectedBytes)}`,
    );
  const isFull = freeBytes < expectedBytes;
  return {
    ...finding(
      "storages",
      name,
      isFull ? "fail" : "warn",
      `storage ${storage} has ${gigabytes(freeBytes)} free, and a whole backup takes about ${gigabytes(expectedBytes)}`,
      "make room there, or shorten retention and look at jbackup cleanup --dry-run",
    ),
    ...(isFull ? { exit: 16 as const } : {}),
  };
}

export interface DeletionFacts {
  storage: string;
  isLocal: boolean;
  /** Whether the credentials that backups are made with removed what they wrote. */
  mayDelete: boolean;
  /** Whether cleanup has credentials of its own. */
  hasCleanup: boolean;
}

/** Backups are safe from whoever gets into this host only where its credentials cannot remove them. */
export function judgeDeletion({ storage, isLocal, mayDelete, hasCleanup }: DeletionFacts): Finding | null {
  const name = `rights-${storage}`;
  if (isLocal) return null;
  if (!mayDelete && hasCleanup)
    return finding(
      "storages",
      name,
      "ok",
      `the credentials of storage ${storage} cannot delete; those of its cleanup can`,
    );
  if (!mayDelete)
    return finding(
      "storages",
      name,
      "warn",
      `the credentials of storage ${storage} cannot delete, and cleanup has no others: nothing ever expires there`,
      `add cleanup: with credentials that may delete to storage ${storage}, or let the bucket's own rules remove what is old`,
    );
  return finding(
    "storages",
    name,
    "warn",
    `whoever takes over this host can delete the backups in storage ${storage}: its credentials may`,
    "jbackup storages harden tells which rights they need, and how cleanup gets credentials of its own",
  );
}

export interface KeyFacts {
  /** Texts of the public halves; "passphrase" for one. */
  recipients: string[];
  isGenerated: boolean;
  /** Whether a private key of this host opened the newest backup; null: it holds none. */
  opens: boolean | null;
  /** The newest backup that it was tried on. */
  label: string | null;
  testedAgeMs: number | null;
  kitAgeMs: number | null;
  /** Why the newest kit is not the one that is needed now. */
  kitDrift: string[];
}

function judgeKeyTest({ label, opens, testedAgeMs }: KeyFacts): Finding[] {
  if (testedAgeMs !== null)
    return [finding("keys", "key-test", "ok", `a key was proved on a backup ${spanText(testedAgeMs)} ago`)];
  if (label === null || opens === null) return []; // there is nothing to try here
  const hint = "jbackup keys test, and once more with the recovery key";
  return [finding("keys", "key-test", "warn", "no key was ever proved on a backup on purpose", hint)];
}

const KIT = "print it and lock it away: jbackup keys kit --out /media/USB/kit.txt";

export function judgeKeys(facts: KeyFacts): Finding[] {
  const of = (name: string, status: FindingStatus, message: string, hint: string | null = null): Finding =>
    finding("keys", name, status, message, hint);
  const many = facts.recipients.length;
  const opening =
    facts.label === null
      ? of(
          "identity",
          "warn",
          "there is no backup yet that a key could be tried on",
          "make one: jbackup backup full",
        )
      : facts.opens === true
        ? of("identity", "ok", `a key of this host opens ${facts.label}`)
        : facts.opens === null
          ? of(
              "identity",
              "ok",
              "this host holds no private key, and so cannot read its own backups: keep one where you restore",
            )
          : {
              ...of(
                "identity",
                "fail",
                `no key of this host opens ${facts.label}`,
                "name the right private key in keys.identity: jbackup keys test",
              ),
              exit: 12 as const,
            };
  return [
    many === 0
      ? of("recipients", "ok", "this host names no keys to seal for: it restores, and backs nothing up")
      : many >= 2
        ? of("recipients", "ok", `backups are sealed for ${many} keys`)
        : of(
            "recipients",
            "warn",
            "backups are sealed for one key only: when it is lost, everything is",
            "make a recovery key (jbackup keys new --out DIRECTORY), add its public half to keys.recipients, then run jbackup keys rotate",
          ),
    opening,
    ...judgeKeyTest(facts),
    facts.kitAgeMs === null
      ? of(
          "kit",
          "warn",
          `no recovery kit was written${facts.isGenerated ? ", and the only key is on this machine" : ""}`,
          KIT,
        )
      : facts.kitDrift.length > 0
        ? of(
            "kit",
            "warn",
            `the recovery kit that was written ${spanText(facts.kitAgeMs)} ago is out of date: ${facts.kitDrift.join(", and ")}`,
            KIT,
          )
        : of(
            "kit",
            "ok",
            `a recovery kit was written ${spanText(facts.kitAgeMs)} ago, for the keys and storages of today`,
          ),
  ];
}

export interface JobFacts {
  job: string;
  command: string;
  /** The last time at which it should have run and did not. */
  missedAt: string | null;
  ranAt: string | null;
}

/** Whether the schedule is carried out: by what ran, and by who would run it. */
export function judgeSchedule(jobs: readonly JobFacts[], runners: readonly string[]): Finding[] {
  if (jobs.length === 0)
    return [
      finding(
        "schedule",
        "schedule",
        "warn",
        "nothing is scheduled: backups are made by hand, or not at all",
        "add schedule: to jbackup.yaml, then jbackup schedule install",
      ),
    ];
  const missed = jobs.filter(({ missedAt }) => missedAt !== null);
  const findings = missed.map(({ job, command, missedAt, ranAt }) =>
    finding(
      "schedule",
      `schedule-${job}`,
      "fail",
      `${job} should have run at ${missedAt} and did not${ranAt === null ? "" : `; it last did at ${ranAt}`}`,
      runners.length === 0
        ? "nothing on this host seems to run it: jbackup schedule install"
        : `look at what ${runners.join(" and ")} says of it, then run it by hand: jbackup ${command}`,
    ),
  );
  if (findings.length > 0) return findings;
  if (runners.length === 0)
    return [
      finding(
        "schedule",
        "schedule",
        "warn",
        `${jobs.length} jobs are scheduled, and nothing on this host seems to run them`,
        "jbackup schedule install, or jbackup schedule run as a service",
      ),
    ];
  return [
    finding(
      "schedule",
      "schedule",
      "ok",
      `${jobs.length} jobs run as they are scheduled, by ${runners.join(" and ")}`,
    ),
  ];
}

export interface ModeFacts {
  path: string;
  mode: number;
  /** What may be in it. */
  what: string;
  holdsSecret: boolean;
}

/** What others of this host must not read, nor anybody but its owner write. */
export function judgeMode({ path, mode, what, holdsSecret }: ModeFacts): {
  finding: Finding;
  wanted: number | null;
} {
  const isReadable = holdsSecret && (mode & 0o007) !== 0;
  const isWritable = (mode & 0o022) !== 0 && (mode & 0o1000) === 0;
  const wanted = isReadable || isWritable ? mode & ~0o022 & (holdsSecret ? ~0o007 : ~0) : null;
  const text = (bits: number): string => (bits & 0o7777).toString(8).padStart(4, "0");
  if (wanted === null)
    return { finding: finding("files", "modes", "ok", `${what} ${path} is kept from others`), wanted };
  return {
    finding: finding(
      "files",
      "modes",
      "fail",
      `${what} ${path} can be ${isReadable ? "read" : "written"} by others (mode ${text(mode)})`,
      `chmod ${text(wanted)} ${path}, or jbackup doctor --fix`,
    ),
    wanted,
  };
}
