import { type KeptBackup, oldestWindowBase, planRetention, type RetentionPolicy } from "./retention.js";

/** What one storage holds of a tenant who is gone: its own backups, and every full one. */
export interface ErasureQuestion {
  /** Null: the storage keeps everything. */
  policy: RetentionPolicy | null;
  backups: KeptBackup[];
  pins: ReadonlyMap<string, string>;
  pitrWindowMs: number;
  now: Date;
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
 * now, which refers to no older one, and another every day; and that the tenant, being gone, gets no more of its own.
 */
export function foreseeErasure(question: ErasureQuestion): ErasureAnswer {
  const { policy, backups, pins, pitrWindowMs, now } = question;
  const paused = (): null => null;
  const today = planRetention({ policy, backups, pins, pitrWindowMs, now, paused });
  const until = new Map<string, Date | null>(backups.map(({ id }) => [id, null]));
  const answer: ErasureAnswer = { until, reasons: today.keep, walUntil: null };
  if (policy === null) return answer;
  const methods = new Set(backups.filter(({ kind }) => kind === "full").map(({ method }) => method));
  let alive = backups;
  for (let day = 0; day < YEARS * 366; day++) {
    const at = new Date(now.getTime() + day * DAY_MS);
    alive = [...alive, ...[...methods].map((method) => madeLater(method, at))];
    const { keep, remove } = planRetention({ policy, backups: alive, pins, pitrWindowMs, now: at, paused });
    for (const id of remove) if (until.has(id)) until.set(id, at);
    alive = alive.filter(({ id }) => keep.has(id));
    const base = oldestWindowBase(alive, pitrWindowMs, at);
    if (base !== null && !until.has(base)) answer.walUntil ??= at;
    if (answer.walUntil !== null && ![...until.values()].includes(null)) break;
  }
  return answer;
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
