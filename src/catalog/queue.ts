import type { JobInsert, PgBoss, Queue } from "pg-boss";
import { isJBackupError, JBackupError, reasonOf } from "../domain/errors.js";
import { parsePostgresUrl } from "./postgresUrl.js";

export interface Work {
  id: string;
  data: Record<string, unknown>;
}

export interface TakenWork extends Work {
  /** 1 for the first. */
  attempt: number;
}

export type WorkStatus = "waiting" | "active" | "done" | "failed" | "cancelled";

export interface FoundWork extends Work {
  status: WorkStatus;
  output: Record<string, unknown>;
}

export interface LineSettings {
  /** After a failure, and after the death of who took it. */
  retryPauseMs: number;
  /** Nothing new is taken in while one piece of work waits or is being done. */
  isSingle: boolean;
}

/**
 * Work that several hosts share: lines of it by name. A piece is taken by one of those who ask; whoever took it says from
 * time to time that it is still at it, or another may take it. It is tried four times, then it is laid aside as dead.
 * Trouble with the database is catalog_unavailable.
 */
export interface JobQueue {
  open(line: string, settings: LineSettings): Promise<void>;
  /** The same id twice, for as long as the first is remembered (a week), is one. */
  offer(line: string, work: Work[]): Promise<void>;
  take(line: string): Promise<TakenWork | null>;
  stillAtIt(line: string, id: string): Promise<void>;
  done(line: string, id: string, output: Record<string, unknown>): Promise<void>;
  failed(line: string, id: string, error: string): Promise<void>;
  /** All that carries these values. */
  find(line: string, values: Record<string, unknown>): Promise<FoundWork[]>;
  /** Takes back what nobody has taken yet. */
  withdraw(line: string, ids: string[]): Promise<void>;
  /** How much was laid aside as dead, in all lines. */
  dead(): Promise<number>;
  close(): Promise<void>;
}

const SCHEMA = "jbackup_jobs";
const DEAD = "dead";
const TRIES_MORE = 3;
/** Silent for so long: dead. */
const SILENT_SECONDS = 15;
const LOOK_EVERY_SECONDS = 3;
const STATUSES: Record<string, WorkStatus> = {
  created: "waiting",
  retry: "waiting",
  active: "active",
  completed: "done",
  failed: "failed",
  cancelled: "cancelled",
};

/** A queue beside a PostgreSQL catalog, in a schema of its own. */
export async function openQueue(url: string, site: string): Promise<JobQueue> {
  const { PgBoss } = await import("pg-boss");
  const { location, config } = parsePostgresUrl(url);
  const boss = new PgBoss({
    ...(config.connectionString === undefined ? {} : { connectionString: config.connectionString }),
    schema: SCHEMA,
    max: 2,
    application_name: "jbackup queue",
    connectionTimeoutMillis: 10_000,
    schedule: false,
    supervise: true,
    superviseIntervalSeconds: LOOK_EVERY_SECONDS,
    monitorIntervalSeconds: LOOK_EVERY_SECONDS,
  });
  // what it does on its own is tried again by itself; what is asked of it fails to whoever asks
  boss.on("error", () => undefined);
  const queue = new BossQueue(boss, site, location);
  await queue.start();
  return queue;
}

class BossQueue implements JobQueue {
  readonly #boss: PgBoss;
  readonly #site: string;
  readonly #location: string;

  constructor(boss: PgBoss, site: string, location: string) {
    this.#boss = boss;
    this.#site = site;
    this.#location = location;
  }

  start(): Promise<void> {
    return this.#guard(async () => {
      try {
        await this.#boss.start();
      } catch (error) {
        await this.#boss.stop({ graceful: false }).catch(() => undefined);
        throw error;
      }
      await this.#create(DEAD, { retryLimit: 0 });
    });
  }

  open(line: string, { retryPauseMs, isSingle }: LineSettings): Promise<void> {
    return this.#guard(() =>
      this.#create(line, {
        policy: isSingle ? "exclusive" : "standard",
        retryLimit: TRIES_MORE,
        retryDelay: Math.max(1, Math.round(retryPauseMs / 1000)),
        heartbeatSeconds: SILENT_SECONDS,
        expireInSeconds: 24 * 3_600,
        deadLetter: this.#nameOf(DEAD),
      }),
    );
  }

  offer(line: string, work: Work[]): Promise<void> {
    const jobs: JobInsert[] = work.map(({ id, data }) => ({ id, data }));
    return this.#guard(async () => {
      await this.#boss.insert(this.#nameOf(line), jobs);
    });
  }

  take(line: string): Promise<TakenWork | null> {
    return this.#guard(async () => {
      const [job] = await this.#boss.fetch<Record<string, unknown>>(this.#nameOf(line), {
        includeMetadata: true,
      });
      return job === undefined ? null : { id: job.id, data: job.data, attempt: job.retryCount + 1 };
    });
  }

  stillAtIt(line: string, id: string): Promise<void> {
    return this.#guard(async () => {
      await this.#boss.touch(this.#nameOf(line), id);
    });
  }

  done(line: string, id: string, output: Record<string, unknown>): Promise<void> {
    return this.#guard(async () => {
      await this.#boss.complete(this.#nameOf(line), id, output);
    });
  }

  failed(line: string, id: string, error: string): Promise<void> {
    return this.#guard(async () => {
      await this.#boss.fail(this.#nameOf(line), id, { error });
    });
  }

  find(line: string, values: Record<string, unknown>): Promise<FoundWork[]> {
    return this.#guard(async () => {
      const jobs = await this.#boss.findJobs<Record<string, unknown>>(this.#nameOf(line), { data: values });
      return jobs.map(({ id, data, state, output }) => ({
        id,
        data,
        status: STATUSES[state] ?? "failed",
        output: typeof output === "object" && output !== null ? (output as Record<string, unknown>) : {},
      }));
    });
  }

  withdraw(line: string, ids: string[]): Promise<void> {
    return this.#guard(async () => {
      await this.#boss.cancel(this.#nameOf(line), ids);
    });
  }

  dead(): Promise<number> {
    return this.#guard(async () => {
      const jobs = await this.#boss.findJobs(this.#nameOf(DEAD), { queued: true });
      return jobs.length;
    });
  }

  async close(): Promise<void> {
    await this.#boss.stop({ graceful: false, close: true }).catch(() => undefined);
  }

  /** Of several sites in one database each has its own lines. */
  #nameOf(line: string): string {
    return `${this.#site}/${line}`;
  }

  /** Somebody else may make it at the same moment. */
  async #create(line: string, settings: Omit<Queue, "name">): Promise<void> {
    const name = this.#nameOf(line);
    if ((await this.#boss.getQueue(name)) === null) await this.#boss.createQueue(name, settings);
    const { policy: _, deadLetter: __, ...changeable } = settings;
    await this.#boss.updateQueue(name, changeable);
  }

  async #guard<Answer>(work: () => Promise<Answer>): Promise<Answer> {
    try {
      return await work();
    } catch (error) {
      if (isJBackupError(error)) throw error;
      throw new JBackupError(
        "catalog_unavailable",
        `cannot use the queue beside the catalog ${this.#location}: ${reasonOf(error)}`,
        {
          hint: "Check catalog.url, that this server is up, and that the role may create the schema jbackup_jobs.",
          cause: error,
        },
      );
    }
  }
}
