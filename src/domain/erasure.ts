import {
  type Gone,
  type KeptBackup,
  oldestWindowBase,
  planRetention,
  type RetentionPolicy,
  type RetentionQuestion,
} from "./retention.js";

/** What one storage holds of a tenant who is gone: its own backups, and every full one. */
export interface ErasureQuestion {
  /** Null: the storage keeps everything. */
  policy: RetentionPolicy | null;
  backups: KeptBackup[];
  pins: ReadonlyMap<string, string>;
  pitrWindowMs: number;
  now: Date;
  tenantId: string;
  /** Null: it is there still, so that its last own backup stays. */
  gone: Gone | null;
  /** Days between two backups of all tenants, each of which sees again that it is gone. */
  lookedForEveryDays: number;
  /** What holds expiry up today. */
  paused: RetentionQuestion["paused"];
  isFailing: NonNullable<RetentionQuestion["isFailing"]>;
}

export interface ErasureAnswer {
  /** When cleanup removes each; null: not within the years that were looked at. */
  until: Map<string, Date | null>;
  /** Why cleanup keeps each today. */
  reasons: Map<string, string[]>;
  /** When the WAL that is archived by now is gone. */
  walUntil: Date | null;
}

const DAY_MS = 86_400_000;
const YEARS = 4;

/**
 * Retention played forward, day by day, by the very rules of cleanup. It is taken for granted that a fresh full backup is made
 * now, which refers to no older one, and another every day, so that nothing holds expiry up any more; and that a tenant who is
 * gone is looked for in vain by every backup of all tenants.
 */
export function foreseeErasure(question: ErasureQuestion): ErasureAnswer {
  const { policy, backups, pins, pitrWindowMs, now, gone, paused, isFailing } = question;
  const rules = { policy, pins, pitrWindowMs };
  const noted = gone !== null && gone.seen.length > 0 ? goneAt(question, 0) : {};
  const today = planRetention({ ...rules, backups, now, paused, isFailing, ...noted });
  const until = new Map<string, Date | null>(backups.map(({ id }) => [id, null]));
  const answer: ErasureAnswer = { until, reasons: today.keep, walUntil: null };
  if (policy === null) return answer;
  const methods = new Set(backups.filter(({ kind }) => kind === "full").map(({ method }) => method));
  let alive = backups;
  for (let day = 0; day < YEARS * 366; day++) {
    const at = new Date(now.getTime() + day * DAY_MS);
    alive = [...alive, ...[...methods].map((method) => madeLater(method, at))];
    const { keep, remove } = planRetention({
      ...rules,
      backups: alive,
      now: at,
      paused: () => null,
      ...(gone === null ? {} : goneAt(question, day)),
    });
    for (const id of remove) if (until.has(id)) until.set(id, at);
    alive = alive.filter(({ id }) => keep.has(id));
    const base = oldestWindowBase(alive, pitrWindowMs, at);
    if (base !== null && !until.has(base)) answer.walUntil ??= at;
    if (answer.walUntil !== null && ![...until.values()].includes(null)) break;
  }
  return answer;
}

/** What will be known by that day. */
function goneAt(
  { tenantId, gone, now, lookedForEveryDays }: ErasureQuestion,
  day: number,
): Pick<RetentionQuestion, "gone"> {
  if (gone === null) return {};
  const looks = Array.from(
    { length: Math.floor(day / lookedForEveryDays) },
    (_, nth) => new Date(now.getTime() + (nth + 1) * lookedForEveryDays * DAY_MS),
  );
  return { gone: new Map([[tenantId, { since: gone.since, seen: [...gone.seen, ...looks] }]]) };
}

const madeLater = (method: KeptBackup["method"], at: Date): KeptBackup => ({
  id: `${method} of ${at.toISOString()}`,
  kind: "full",
  method,
  tenantId: null,
  createdAt: at,
  endedAt: at,
  needs: [],
  isGood: true,
});
