import type { GetOptions, ObjectBody, ObjectFacts, PutOptions, Storage } from "./storage.js";
import { WrappedStorage } from "./wrapped.js";

/** Lets so many through at a time, the others in the order in which they came. */
class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async through<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free--;
    else await this.#turn(signal);
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }

  #turn(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const quit = (): void => {
      const at = this.#waiting.indexOf(enter);
      if (at >= 0) this.#waiting.splice(at, 1);
      reject(signal?.reason);
    };
    const enter = (): void => {
      signal?.removeEventListener("abort", quit);
      resolve();
    };
    if (signal?.aborted) return Promise.reject(signal.reason);
    signal?.addEventListener("abort", quit, { once: true });
    this.#waiting.push(enter);
    return promise;
  }
}

class LimitedStorage extends WrappedStorage {
  readonly #gate: Gate;

  constructor(inner: Storage, places: number) {
    super(inner);
    this.#gate = new Gate(places);
  }

  override put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<void> {
    return this.#gate.through(() => this.inner.put(key, body, options), options.signal);
  }

  override get(key: string, options: GetOptions = {}): AsyncIterable<Uint8Array> {
    return this.#each(this.inner.get(key, options));
  }

  override stat(key: string): Promise<ObjectFacts | undefined> {
    return this.#gate.through(() => this.inner.stat(key));
  }

  override list(prefix: string, after?: string): AsyncIterable<ObjectFacts> {
    return this.#each(this.inner.list(prefix, after));
  }

  override delete(key: string): Promise<void> {
    return this.#gate.through(() => this.inner.delete(key));
  }

  override sweep(prefix: string, olderThanMs: number): Promise<number> {
    return this.#gate.through(() => this.inner.sweep(prefix, olderThanMs));
  }

  /** A place is held only while an item is fetched: readers that hold several objects open at once cannot lock each other out. */
  async *#each<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    const iterator = items[Symbol.asyncIterator]();
    try {
      for (;;) {
        const next = await this.#gate.through(() => iterator.next());
        if (next.done) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
}

/** At most so many operations at a time, whoever asks for them. */
export const withLimit = (inner: Storage, places: number): Storage => new LimitedStorage(inner, places);
