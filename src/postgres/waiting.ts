import { setTimeout as pause } from "node:timers/promises";
import { isJBackupError } from "../domain/errors.js";
import type { Session } from "./connection.js";

const LOOK_MS = 3_000;

/** Whoever holds what a session waits for. Zero is nobody's process: a prepared transaction. What a role may not see of others is null. */
const HOLDERS = `select holder.pid::text as pid, a.application_name as name, a.state as state,
    floor(extract(epoch from clock_timestamp() - a.query_start))::bigint::text as seconds
  from (select distinct unnest(pg_catalog.pg_blocking_pids($1::int)) as pid) as holder
  left join pg_catalog.pg_stat_activity a on a.pid = holder.pid order by 1`;

interface Holder extends Record<string, string | null> {
  pid: string;
  name: string | null;
  state: string | null;
  seconds: string | null;
}

export function holderText({ pid, name, state, seconds }: Holder): string {
  if (pid === "0") return "a prepared transaction";
  const facts = [
    name === null || name === "" ? null : `application ${name}`,
    state,
    seconds === null ? null : `its query began ${seconds} s ago`,
  ].filter((fact) => fact !== null);
  return `session ${pid}${facts.length === 0 ? "" : ` (${facts.join(", ")})`}`;
}

/** Tells, once for each, for whom a session waits that is at work elsewhere. Answers how to stop looking. */
export function watchWaits(given: {
  /** The server process of the session that may wait. */
  pid: string;
  observe(): Promise<Session>;
  tell(text: string): void;
}): () => Promise<void> {
  const over = new AbortController();
  let failure: unknown = null;
  const looking = look(given, over.signal).catch((error: unknown) => {
    failure = error; // thrown where somebody waits for it
  });
  return async () => {
    over.abort();
    await looking;
    if (failure !== null) throw failure;
  };
}

async function look(
  { pid, observe, tell }: Parameters<typeof watchWaits>[0],
  signal: AbortSignal,
): Promise<void> {
  const told = new Set<string>();
  let observer: Session | undefined;
  try {
    for (;;) {
      await pause(LOOK_MS, undefined, { signal });
      observer ??= await observe();
      for (const holder of await observer.rows<Holder>(HOLDERS, [pid])) {
        if (told.has(holder.pid)) continue;
        told.add(holder.pid);
        tell(`waiting for ${holderText(holder)} to let go of a lock`);
      }
    }
  } catch (error) {
    // the wait is over; or the server lets nobody else in, and the work itself must not fail of that
    if (!signal.aborted && !isJBackupError(error)) throw error;
  } finally {
    await observer?.close();
  }
}
