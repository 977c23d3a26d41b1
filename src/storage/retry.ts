import { randomInt } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { isJBackupError, JBackupError } from "../domain/errors.js";
import type { Clock } from "../sys/clock.js";
import { objectMissing } from "./failures.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage } from "./storage.js";
import { WrappedStorage } from "./wrapped.js";

export interface RetryPolicy {
  /** All of an operation's waiting and trying again together; once it is spent the last failure stands. */
  budgetMs: number;
  /** The first pause; each further one may be twice as long, up to `longestPauseMs`. */
  firstPauseMs: number;
  longestPauseMs: number;
}

export const DEFAULT_RETRY: RetryPolicy = { budgetMs: 180_000, firstPauseMs: 500, longestPauseMs: 30_000 };

/** Replaced in tests, so that they need not wait and always draw the same pauses. */
export interface Pausing {
  clock: Clock;
  sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
  random?: () => number;
}

const sleepUnlessAborted = async (ms: number, signal?: AbortSignal): Promise<void> => {
  await delay(ms, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
};

const anyFraction = (): number => randomInt(2 ** 32) / 2 ** 32;

/** One operation's history of failures: says how long to pause before the next attempt, or that it is over. */
class Attempts {
  readonly #policy: RetryPolicy;
  readonly #pausing: Pausing;
  readonly #startedMs: number;
  #failures = 0;

  constructor(policy: RetryPolicy, pausing: Pausing) {
    this.#policy = policy;
    this.#pausing = pausing;
    this.#startedMs = pausing.clock.monotonicMs();
  }

  /** Returns when it is time to try again; throws when it makes no sense or the budget is spent. */
  async pauseAfter(error: unknown, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (!isJBackupError(error, "storage_unavailable") || error.details?.isFinal === true) throw error;
    this.#failures++;
    const elapsedMs = this.#pausing.clock.monotonicMs() - this.#startedMs;
    const pauseMs = this.#pauseMs(error);
    if (elapsedMs + pauseMs > this.#policy.budgetMs) throw gaveUp(error, this.#failures, elapsedMs);
    await (this.#pausing.sleep ?? sleepUnlessAborted)(pauseMs, signal);
  }

  /** Half of it fixed, half drawn: many clients that failed together must not come back together. */
  #pauseMs(error: JBackupError): number {
    const { firstPauseMs, longestPauseMs } = this.#policy;
    const fullMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(this.#failures - 1, 30));
    const drawnMs = fullMs / 2 + (fullMs / 2) * (this.#pausing.random ?? anyFraction)();
    const askedMs = error.details?.retryAfterMs;
    return typeof askedMs === "number" ? Math.max(askedMs, drawnMs) : drawnMs;
  }
}

function gaveUp(error: JBackupError, attempts: number, elapsedMs: number): JBackupError {
  if (attempts === 1) return error;
  return new JBackupError(
    error.code,
    `${error.message} (${attempts} attempts in ${Math.round(elapsedMs / 1000)} s)`,
    {
      hint: error.hint,
      cause: error,
      details: { ...error.details, attempts },
    },
  );
}

/**
 * Tries again what failed with storage_unavailable, unless it says that it is final: jittered, growing pauses, the server's Retry-After, a time budget.
 * Everything else fails at once. Puts are idempotent, so that an answer lost on the way is harmless.
 */
export class RetryingStorage extends WrappedStorage {
  readonly #policy: RetryPolicy;
  readonly #pausing: Pausing;

  constructor(inner: Storage, policy: RetryPolicy, pausing: Pausing) {
    super(inner);
    this.#policy = policy;
    this.#pausing = pausing;
  }

  override put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    return this.#retrying(() => this.inner.put(key, body, options), options.signal);
  }

  /** Goes on where the bytes stopped. Objects are write-once, so both halves are of the same one. */
  override async *get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    let attempts = this.#attempts();
    let range = options.range;
    let got = 0;
    for (;;) {
      try {
        for await (const chunk of this.inner.get(
          key,
          range === undefined ? options : { ...options, range },
        )) {
          got += chunk.length;
          attempts = this.#attempts();
          yield chunk;
        }
        return;
      } catch (error) {
        await attempts.pauseAfter(error, options.signal);
        if (got > 0) range = await this.#rest(key, options, got);
      }
    }
  }

  async #rest(key: string, options: GetOptions, got: number): Promise<{ start: number; end: number }> {
    if (options.range !== undefined) return { start: options.range.start + got, end: options.range.end };
    const facts = await this.stat(key);
    if (facts === undefined) throw objectMissing(this.name, key);
    return { start: got, end: facts.bytes };
  }

  override stat(key: string): Promise<ObjectFacts | undefined> {
    return this.#retrying(() => this.inner.stat(key));
  }

  /** A listing is ordered: after a failure it starts again and passes over what was already answered. */
  override async *list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    let attempts = this.#attempts();
    let last = "";
    for (;;) {
      try {
        for await (const facts of this.inner.list(prefix, after)) {
          if (facts.key <= last) continue;
          last = facts.key;
          attempts = this.#attempts();
          yield facts;
        }
        return;
      } catch (error) {
        await attempts.pauseAfter(error);
      }
    }
  }

  override delete(key: string): Promise<void> {
    return this.#retrying(() => this.inner.delete(key));
  }

  override sweep(prefix: string, olderThanMs: number): Promise<number> {
    return this.#retrying(() => this.inner.sweep(prefix, olderThanMs));
  }

  #attempts(): Attempts {
    return new Attempts(this.#policy, this.#pausing);
  }

  async #retrying<T>(deed: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const attempts = this.#attempts();
    for (;;) {
      try {
        return await deed();
      } catch (error) {
        await attempts.pauseAfter(error, signal);
      }
    }
  }
}

export const withRetry = (inner: Storage, policy: Partial<RetryPolicy>, pausing: Pausing): Storage =>
  new RetryingStorage(inner, { ...DEFAULT_RETRY, ...policy }, pausing);
