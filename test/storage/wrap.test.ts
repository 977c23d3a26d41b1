import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { JBackupError } from "../../src/domain/errors.js";
import { withLimit } from "../../src/storage/limit.js";
import { LocalStorage } from "../../src/storage/local.js";
import { withRetry } from "../../src/storage/retry.js";
import {
  bytesBody,
  type GetOptions,
  type ObjectBody,
  type PutOptions,
  type Storage,
} from "../../src/storage/storages.js";
import { withWatchdog } from "../../src/storage/watchdog.js";
import { WrappedStorage } from "../../src/storage/wrapped.js";
import { systemClock } from "../../src/sys/clock.js";
import { collect } from "./configs.js";

let directory: string;
let local: Storage;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "jbackup-wrap-"));
  local = new LocalStorage({ kind: "local", name: "local", path: directory }, systemClock);
});
afterEach(() => rmSync(directory, { recursive: true }));

const text = (content: string): ObjectBody => bytesBody([Buffer.from(content)]);
const readText = async (storage: Storage, key: string, options: GetOptions = {}): Promise<string> => {
  const chunks: Uint8Array[] = [];
  for await (const chunk of storage.get(key, options)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
};
const unavailable = (details = {}): JBackupError =>
  new JBackupError("storage_unavailable", "storage local: it is down", { details });

/** Fails as scripted before it does what the real storage does. */
class Failing extends WrappedStorage {
  attempts = 0;
  readonly #errors: unknown[];

  constructor(errors: unknown[]) {
    super(local);
    this.#errors = errors;
  }

  override async put(key: string, body: ObjectBody, options?: PutOptions): Promise<void> {
    this.attempts++;
    const error = this.#errors.shift();
    if (error !== undefined) throw error;
    await super.put(key, body, options);
  }

  /** Breaks off after two bytes of each answer. */
  override async *get(key: string, options?: GetOptions): AsyncIterable<Uint8Array> {
    this.attempts++;
    for await (const chunk of super.get(key, options)) {
      const error = this.#errors.shift();
      yield error === undefined ? chunk : chunk.subarray(0, 2);
      if (error !== undefined) throw error;
    }
  }

  override async *list(prefix: string) {
    this.attempts++;
    for await (const facts of super.list(prefix)) {
      yield facts;
      const error = this.#errors.shift();
      if (error !== undefined) throw error;
    }
  }
}

/** Time passes only while somebody sleeps. */
function instantTime() {
  let nowMs = 0;
  const pauses: number[] = [];
  return {
    pauses,
    clock: { now: () => new Date(nowMs), monotonicMs: () => nowMs },
    sleep: async (ms: number) => {
      pauses.push(ms);
      nowMs += ms;
    },
    random: () => 1,
  };
}

describe("retrying", () => {
  const policy = { budgetMs: 60_000, firstPauseMs: 1000, longestPauseMs: 8000 };

  test("pauses longer after each failure, until it works", async () => {
    const time = instantTime();
    const failing = new Failing([1, 2, 3, 4, 5].map(() => unavailable()));
    await withRetry(failing, policy, time).put("key", text("x"));
    expect(time.pauses).toEqual([1000, 2000, 4000, 8000, 8000]);
    expect(await readText(local, "key")).toBe("x");
  });

  test("draws its pauses between half and the whole", async () => {
    const time = { ...instantTime(), random: () => 0 };
    await withRetry(new Failing([unavailable()]), policy, time).put("key", text("x"));
    expect(time.pauses).toEqual([500]);
  });

  test("waits as long as the server asks", async () => {
    const time = instantTime();
    await withRetry(new Failing([unavailable({ retryAfterMs: 7000 })]), policy, time).put("key", text("x"));
    expect(time.pauses).toEqual([7000]);
  });

  test("gives up once the budget is spent, and says how often it tried", async () => {
    const time = instantTime();
    const failing = new Failing(Array.from({ length: 100 }, () => unavailable()));
    await expect(
      withRetry(failing, { ...policy, budgetMs: 10_000 }, time).put("key", text("x")),
    ).rejects.toMatchObject({
      code: "storage_unavailable",
      message: "storage local: it is down (4 attempts in 7 s)",
    });
    expect(failing.attempts).toBe(4);
  });

  test("does not even begin to wait when the server asks for more than the budget", async () => {
    const time = instantTime();
    const failing = new Failing([unavailable({ retryAfterMs: 3_600_000 })]);
    await expect(withRetry(failing, policy, time).put("key", text("x"))).rejects.toThrow(
      "storage local: it is down",
    );
    expect(time.pauses).toEqual([]);
  });

  test.each(["storage_denied", "storage_full", "object_exists", "object_missing", "bug"] as const)(
    "leaves %s as it is",
    async (code) => {
      const failing = new Failing([new JBackupError(code, "no")]);
      await expect(withRetry(failing, policy, instantTime()).put("key", text("x"))).rejects.toMatchObject({
        code,
        message: "no",
      });
      expect(failing.attempts).toBe(1);
    },
  );

  test("ends a pause when it is aborted", async () => {
    const abort = new AbortController();
    const work = withRetry(new Failing([unavailable()]), policy, { clock: systemClock }).put(
      "key",
      text("x"),
      { signal: abort.signal },
    );
    setTimeout(() => abort.abort(new Error("stopped")), 20);
    await expect(work).rejects.toThrow("stopped");
  });

  test("goes on reading where the bytes stopped", async () => {
    await local.put("key", text("0123456789"));
    const storage = withRetry(
      new Failing([unavailable(), unavailable(), unavailable()]),
      policy,
      instantTime(),
    );
    expect(await readText(storage, "key")).toBe("0123456789");
    const ranged = withRetry(new Failing([unavailable(), unavailable()]), policy, instantTime());
    expect(await readText(ranged, "key", { range: { start: 3, end: 9 } })).toBe("345678");
  });

  test("never ends a read early because the object vanished meanwhile", async () => {
    await local.put("key", text("0123456789"));
    const storage = withRetry(new Failing([unavailable()]), policy, {
      ...instantTime(),
      sleep: () => local.delete("key"),
    });
    await expect(readText(storage, "key")).rejects.toMatchObject({ code: "object_missing" });
  });

  test("goes on listing after the last key it answered", async () => {
    for (const key of ["a", "b", "c"]) await local.put(key, text(key));
    const keys: string[] = [];
    for await (const { key } of withRetry(
      new Failing([unavailable(), unavailable()]),
      policy,
      instantTime(),
    ).list(""))
      keys.push(key);
    expect(keys).toEqual(["a", "b", "c"]);
  });

  test("never lets a listing that keeps failing end as if it were complete", async () => {
    for (const key of ["a", "b", "c"]) await local.put(key, text(key));
    const failing = new Failing(Array.from({ length: 100 }, () => new JBackupError("storage_denied", "no")));
    const list = async () => {
      for await (const _ of withRetry(failing, policy, instantTime()).list(""));
    };
    await expect(list()).rejects.toThrow("no");
  });
});

/** Never answers, and does not care about signals. */
class Hanging extends WrappedStorage {
  override put(): Promise<void> {
    return new Promise(() => {});
  }
  override async *get(key: string): AsyncIterable<Uint8Array> {
    yield* super.get(key, { range: { start: 0, end: 3 } });
    await new Promise(() => {});
  }
  override stat(): Promise<undefined> {
    return new Promise(() => {});
  }
  override async *list(prefix: string) {
    yield* super.list(prefix);
    await new Promise(() => {});
  }
}

describe("the watchdog", () => {
  test("gives up what hangs, though it listens to no signal", async () => {
    await local.put("key", text("0123456789"));
    const storage = withWatchdog(new Hanging(local), 40);
    const expected = {
      code: "storage_unavailable",
      message: expect.stringContaining("no byte moved for 0.04 s"),
    };
    await expect(storage.put("other", text("x"))).rejects.toMatchObject(expected);
    await expect(storage.stat("key")).rejects.toMatchObject(expected);
    await expect(readText(storage, "key")).rejects.toMatchObject(expected);
    const list = async () => {
      for await (const _ of storage.list(""));
    };
    await expect(list()).rejects.toMatchObject(expected);
  });

  test("aborts the put that it gives up", async () => {
    let reason: unknown;
    class Listening extends WrappedStorage {
      override put(_key: string, _body: ObjectBody, options?: PutOptions): Promise<void> {
        return new Promise((_, reject) =>
          options?.signal?.addEventListener("abort", () => {
            reason = options.signal?.reason;
            reject(reason);
          }),
        );
      }
    }
    await expect(withWatchdog(new Listening(local), 30).put("key", text("x"))).rejects.toThrow(
      "no byte moved",
    );
    expect(reason).toMatchObject({ code: "storage_unavailable" });
  });

  test("is patient with a slow body that moves", async () => {
    const slow: ObjectBody = {
      ...text("0123456789"),
      async *read(start, end) {
        for (let at = start; at < end; at++) {
          await delay(40);
          yield Buffer.from(String(at));
        }
      },
    };
    await withWatchdog(local, 300).put("key", slow);
    expect(await readText(local, "key")).toBe("0123456789");
  });

  test("does not count the time that the reader takes", async () => {
    await local.put("key", bytesBody([Buffer.alloc(3 << 20)]));
    let bytes = 0;
    for await (const chunk of withWatchdog(local, 40).get("key")) {
      bytes += chunk.length;
      await delay(70);
    }
    expect(bytes).toBe(3 << 20);
  });

  test("closes what the reader leaves early", async () => {
    await local.put("key", bytesBody([Buffer.alloc(3 << 20)]));
    for await (const _ of withWatchdog(local, 1000).get("key")) break;
  });
});

describe("the limit", () => {
  class Counting extends WrappedStorage {
    running = 0;
    most = 0;
    override async put(key: string, body: ObjectBody, options?: PutOptions): Promise<void> {
      this.most = Math.max(this.most, ++this.running);
      await delay(5);
      await super.put(key, body, options);
      this.running--;
    }
  }

  test("lets only so many through at a time, and all in the end", async () => {
    const counting = new Counting(local);
    const storage = withLimit(counting, 3);
    await Promise.all(Array.from({ length: 20 }, (_, index) => storage.put(`key-${index}`, text("x"))));
    expect(counting.most).toBe(3);
    expect((await collect(local.list("key-"))).length).toBe(20);
  });

  test("frees the place of what fails", async () => {
    const storage = withLimit(new Failing([unavailable()]), 1);
    await expect(storage.put("key", text("x"))).rejects.toThrow();
    await storage.put("key", text("x"));
  });

  test("lets those who wait be aborted", async () => {
    const storage = withLimit(new Hanging(local), 1);
    void storage.put("key", text("x"));
    await expect(storage.put("key", text("x"), { signal: AbortSignal.timeout(20) })).rejects.toThrow(
      "timeout",
    );
  });

  test("does not lock readers out that hold several objects open", async () => {
    for (const key of ["a", "b", "c"]) await local.put(key, bytesBody([Buffer.alloc(3 << 20)]));
    const storage = withLimit(local, 1);
    const readers = ["a", "b", "c"].map((key) => storage.get(key)[Symbol.asyncIterator]());
    for (let round = 0; round < 3; round++)
      for (const reader of readers) expect((await reader.next()).done).toBe(false);
    for (const reader of readers) await reader.return?.();
  });
});
