import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { CompareTask, Differences } from "./compareFile.js";
import type { ObjectSource, Range } from "./open.js";
import { type Answer, type Order, received } from "./threadMessages.js";
import type { UnpackTask } from "./unpackRuns.js";

/** Each holds a pack in memory, and so many unpack more than a disk takes. */
const MOST = 4;

const PROGRAM = new URL(
  import.meta.url.endsWith(".ts") ? "../../dist/format/fileThread.js" : "./fileThread.js",
  import.meta.url,
);

type Work = Exclude<Order, { kind: "bytes" }>;

/**
 * Threads that unpack sealed objects into files, and compare files with their fingerprints. Each does all of it by itself,
 * one step after another, on memory that it frees at once: passing every megabyte through the main thread and libuv's
 * threads costs more than the work.
 */
export class FileThreads {
  /** So many things are done at one time; whoever asks for more waits. */
  readonly count = Math.min(MOST, availableParallelism());
  readonly #all: Worker[] = [];
  readonly #idle: Worker[] = [];
  /** Of a bug, or for want of memory: what it did has failed, the others go on. */
  readonly #ended = new Set<Worker>();
  readonly #waiting: ((thread: Worker) => void)[] = [];

  /** Every frame of the object is opened, whatever is wanted of it. Errors are the source's, the object's, or those of the disk written to. */
  async unpackWhole(source: ObjectSource, task: UnpackTask): Promise<void> {
    const object = await readWhole(source, { start: 0, end: source.bytes });
    await this.#give({ kind: "unpack-whole", task: withKeyAlone(task), object }, [object.buffer]);
  }

  /** Reads and opens only the frames that hold the ranges, which must cover the runs. */
  async unpackRanges(source: ObjectSource, ranges: Range[], task: UnpackTask): Promise<void> {
    const order = { kind: "unpack-ranges", objectBytes: source.bytes, ranges } as const;
    await this.#give({ ...order, task: withKeyAlone(task) }, [], source);
  }

  async compare(task: CompareTask): Promise<Differences> {
    return (await this.#give({
      kind: "compare",
      task: { ...task, tags: alone(task.tags), key: alone(task.key) },
    })) as Differences;
  }

  /** To be called when nothing is under way any more. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map((thread) => thread.terminate()));
  }

  async #give(
    work: Work,
    moved: ArrayBuffer[] = [],
    source?: ObjectSource,
  ): Promise<Differences | undefined> {
    const thread = await this.#take();
    try {
      return await carriedOut(thread, work, moved, source);
    } finally {
      const usable = this.#ended.has(thread) ? this.#start() : thread;
      const next = this.#waiting.shift();
      if (next) next(usable);
      else this.#idle.push(usable);
    }
  }

  async #take(): Promise<Worker> {
    const idle = this.#idle.pop();
    if (idle) return idle;
    if (this.#all.length - this.#ended.size >= this.count)
      return new Promise((resolve) => this.#waiting.push(resolve));
    return this.#start();
  }

  #start(): Worker {
    const thread = new Worker(PROGRAM);
    for (const event of ["error", "exit"]) thread.on(event, () => this.#ended.add(thread));
    this.#all.push(thread);
    return thread;
  }
}

/** Without what else is in the memory that it is a part of: all of that would be sent along. */
const alone = (bytes: Uint8Array): Uint8Array => new Uint8Array(bytes);

const withKeyAlone = (task: UnpackTask): UnpackTask => ({ ...task, dataKey: alone(task.dataKey) });

function carriedOut(
  thread: Worker,
  work: Work,
  moved: ArrayBuffer[],
  source: ObjectSource | undefined,
): Promise<Differences | undefined> {
  let whyNotRead: unknown;
  const bring = async (range: Range): Promise<void> => {
    let bytes: Uint8Array<ArrayBuffer> | null = null;
    try {
      bytes = await readWhole(source as ObjectSource, range);
    } catch (error) {
      whyNotRead = error;
    }
    thread.postMessage({ kind: "bytes", bytes } satisfies Order, bytes === null ? [] : [bytes.buffer]);
  };
  const { promise, resolve, reject } = Promise.withResolvers<Differences | undefined>();
  const onMessage = (answer: Answer): void => {
    if (answer.kind === "wants") void bring(answer.range);
    else if (answer.kind === "done") resolve(answer.differences);
    else reject(whyNotRead ?? received(answer.error));
  };
  const onExit = (): void => reject(new Error("a thread ended in the middle of its work"));
  thread.on("message", onMessage).on("error", reject).on("exit", onExit);
  thread.postMessage(work, moved);
  return promise.finally(() => {
    thread.off("message", onMessage).off("error", reject).off("exit", onExit);
  });
}

/** In one piece of memory of its own, so that it can be handed to a thread without copying. */
async function readWhole(source: ObjectSource, { start, end }: Range): Promise<Uint8Array<ArrayBuffer>> {
  const whole = new Uint8Array(new ArrayBuffer(end - start));
  let at = 0;
  for await (const chunk of source.read(start, end)) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return at === whole.length ? whole : whole.slice(0, at);
}
