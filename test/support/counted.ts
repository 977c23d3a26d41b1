import type { Site } from "../../src/engine/site.js";
import type { Storage } from "../../src/storage/storages.js";

/** What a storage really handed over, by object. */
export class Served {
  readonly #ranges = new Map<string, [start: number, end: number][]>();

  add(key: string, start: number, bytes: number): void {
    const ranges = this.#ranges.get(key) ?? [];
    this.#ranges.set(key, ranges);
    ranges.push([start, start + bytes]);
  }

  keys(wanted: (key: string) => boolean): string[] {
    return [...this.#ranges.keys()].filter(wanted);
  }

  bytesOf(key: string): number {
    return (this.#ranges.get(key) ?? []).reduce((sum, [start, end]) => sum + end - start, 0);
  }

  /** Bytes that were handed over before. */
  againOf(key: string): number {
    let [again, reached] = [0, 0];
    for (const [start, end] of (this.#ranges.get(key) ?? []).toSorted(([a], [b]) => a - b)) {
      again += Math.max(0, Math.min(end, reached) - start);
      reached = Math.max(reached, end);
    }
    return again;
  }
}

/** A site whose storages are counted. */
export const countedSite = (site: Site, served: Served): Site => ({
  ...site,
  storages: async () =>
    (await site.storages()).map((entry) =>
      entry.storage === null ? entry : { ...entry, storage: counted(entry.storage, served) },
    ),
});

const counted = (storage: Storage, served: Served): Storage =>
  new Proxy(storage, {
    get(target, property) {
      const value = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (property !== "get") return value.bind(target);
      return async function* (...args: Parameters<Storage["get"]>) {
        const [key, options] = args;
        let at = options?.range?.start ?? 0;
        for await (const chunk of target.get(...args)) {
          served.add(key, at, chunk.length);
          at += chunk.length;
          yield chunk;
        }
      };
    },
  });
