// The program of a thread of FileThreads.
import { type MessagePort, parentPort } from "node:worker_threads";
import { WrittenFiles } from "../sys/writtenFiles.js";
import { compareFile } from "./compareFile.js";
import type { ObjectSource } from "./open.js";
import { type Answer, type Order, sendable } from "./threadMessages.js";
import { unpackRanges, unpackWhole } from "./unpackRuns.js";

const port = parentPort as MessagePort;
const files = new WrittenFiles();
let onBytes: (bytes: Uint8Array | null) => void = () => undefined;

const say = (answer: Answer): void => port.postMessage(answer);

/** Reads by asking the main thread, which knows the storages. */
const askingSource = (bytes: number): ObjectSource => ({
  bytes,
  async *read(start, end) {
    const answered = new Promise<Uint8Array | null>((resolve) => {
      onBytes = resolve;
    });
    say({ kind: "wants", range: { start, end } });
    const found = await answered;
    if (found === null) throw new Error("the bytes could not be read"); // the main thread knows why
    yield found;
  },
});

async function carryOut(order: Exclude<Order, { kind: "bytes" }>): Promise<Answer> {
  if (order.kind === "compare") return { kind: "done", differences: compareFile(order.task) };
  if (order.kind === "unpack-whole") unpackWhole(Buffer.from(order.object.buffer), order.task, files);
  else await unpackRanges(askingSource(order.objectBytes), order.ranges, order.task, files);
  return { kind: "done" };
}

port.on("message", (order: Order) => {
  if (order.kind === "bytes") onBytes(order.bytes);
  else carryOut(order).then(say, (error: unknown) => say({ kind: "failed", error: sendable(error) }));
});
