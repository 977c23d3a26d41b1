import type { JBackupError } from "../domain/errors.js";
import { type Deed, storageFailure } from "./failures.js";
import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage } from "./storage.js";
import { WrappedStorage } from "./wrapped.js";

export const DEFAULT_IDLE_MS = 60_000;

/** Barks once when nobody pats it in time. A timer of our own: a socket that trickles or never connects can fool its own. */
class Watchdog {
  readonly #idleMs: number;
  readonly #abort = new AbortController();
  readonly #barked = Promise.withResolvers<never>();
  #timer: NodeJS.Timeout | undefined;
  readonly #error: JBackupError;

  constructor(idleMs: number, deed: Deed) {
    this.#idleMs = idleMs;
    this.#error = storageFailure("storage_unavailable", deed, `no byte moved for ${idleMs / 1000} s`);
    this.#barked.promise.catch(() => {});
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  pat(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#barked.reject(this.#error);
      this.#abort.abort(this.#error);
    }, this.#idleMs);
  }

  rest(): void {
    clearTimeout(this.#timer);
  }

  /** Waits for the promise, but no longer than the patience: also when the work does not listen to the signal. */
  async guard<T>(work: Promise<T>): Promise<T> {
    this.pat();
    try {
      return await Promise.race([work, this.#barked.promise]);
    } finally {
      this.rest();
    }
  }

  /** The time that the consumer takes between two items is its own. */
  async *guardAll<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    const iterator = items[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.guard(iterator.next());
        if (next.done) return;
        yield next.value;
      }
    } finally {
      // After a bark the iterator may hang for ever: it is told to end, not waited for.
      const ended = iterator.return?.();
      if (this.signal.aborted) ended?.catch(() => {});
      else await ended;
    }
  }
}

const together = (ours: AbortSignal, theirs: AbortSignal | undefined): AbortSignal =>
  theirs === undefined ? ours : AbortSignal.any([ours, theirs]);

class WatchedStorage extends WrappedStorage {
  readonly #idleMs: number;

  constructor(inner: Storage, idleMs: number) {
    super(inner);
    this.#idleMs = idleMs;
  }

  #watchdog(verb: Deed["verb"], key: string, factor = 1): Watchdog {
    return new Watchdog(this.#idleMs * factor, { storage: this.name, verb, key });
  }

  /**
   * Adapters read the body as fast as the network takes it, so that each chunk read is progress. The requests before and
   * after the body have one patience together.
   */
  override put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    const watchdog = this.#watchdog("put", key);
    const watched: ObjectBody = {
      bytes: body.bytes,
      sha256: body.sha256,
      async *read(start, end) {
        for await (const chunk of body.read(start, end)) {
          if (!watchdog.signal.aborted) watchdog.pat();
          yield chunk;
        }
      },
    };
    const signal = together(watchdog.signal, options.signal);
    return watchdog
      .guard(this.inner.put(key, watched, { ...options, signal }))
      .finally(() => watchdog.rest());
  }

  override get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    const watchdog = this.#watchdog("get", key);
    return watchdog.guardAll(
      this.inner.get(key, { ...options, signal: together(watchdog.signal, options.signal) }),
    );
  }

  override stat(key: string): Promise<ObjectFacts | undefined> {
    return this.#watchdog("stat", key).guard(this.inner.stat(key));
  }

  override list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    return this.#watchdog("list", prefix).guardAll(this.inner.list(prefix, after));
  }

  override delete(key: string): Promise<void> {
    return this.#watchdog("delete", key).guard(this.inner.delete(key));
  }

  /** Many requests and nothing to see in between: more patience. */
  override sweep(prefix: string, olderThanMs: number): Promise<number> {
    return this.#watchdog("sweep", prefix, 10).guard(this.inner.sweep(prefix, olderThanMs));
  }
}

/** Gives up an operation that moved no byte for so long, with storage_unavailable. */
export const withWatchdog = (inner: Storage, idleMs = DEFAULT_IDLE_MS): Storage =>
  new WatchedStorage(inner, idleMs);
