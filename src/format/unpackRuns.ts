import { freeMemory } from "../sys/memory.js";
import type { WrittenFiles } from "../sys/writtenFiles.js";
import { objectFault } from "./faults.js";
import type { SealContext } from "./header.js";
import { type ObjectSource, openRanges, type Range } from "./open.js";
import { openWhole } from "./openWhole.js";

/** What is wanted of one object, and where it goes. */
export interface UnpackTask {
  dataKey: Uint8Array;
  context: SealContext;
  /** In the order of the object, four numbers each: offset and length in its content, number of the file, offset in it. */
  runs: Float64Array;
  paths: Map<number, string>;
}

export const RUN_FIELDS = 4;

/** Of an object that is in memory, which is given back. */
export function unpackWhole(object: Buffer, task: UnpackTask, files: WrittenFiles): void {
  const write = runWriter(task, files);
  let offset = 0;
  for (const content of openWhole(object, task.dataKey, task.context)) {
    write(offset, content);
    offset += content.length;
    freeMemory(content);
  }
  freeMemory(object);
  const end = endOf(task.runs);
  if (offset < end)
    throw objectFault("object_truncated", task.context, `holds ${offset} bytes, and ${end} are asked for`);
}

/** Reading no more than the frames that hold the ranges. */
export async function unpackRanges(
  source: ObjectSource,
  ranges: Range[],
  task: UnpackTask,
  files: WrittenFiles,
): Promise<void> {
  const write = runWriter(task, files);
  for await (const { offset, content } of openRanges(source, task.dataKey, task.context, ranges))
    write(offset, content);
}

/** Takes the content piece by piece, from the front to the back, and writes what is wanted of it. */
function runWriter({ runs, paths }: UnpackTask, files: WrittenFiles): (at: number, piece: Buffer) => void {
  let next = 0;
  return (pieceAt, piece) => {
    const pieceEnd = pieceAt + piece.length;
    // a run may go on in the next piece, and one of another file may begin inside it
    for (let nth = next; nth < runs.length; nth += RUN_FIELDS) {
      const [offset = 0, bytes = 0, file = 0, at = 0] = runs.subarray(nth, nth + RUN_FIELDS);
      if (offset >= pieceEnd) return;
      if (nth === next && offset + bytes <= pieceEnd) next += RUN_FIELDS;
      const from = Math.max(offset, pieceAt);
      const to = Math.min(offset + bytes, pieceEnd);
      if (from < to)
        files.write(
          paths.get(file) as string,
          piece.subarray(from - pieceAt, to - pieceAt),
          at + from - offset,
        );
    }
  };
}

const endOf = (runs: Float64Array): number => {
  let end = 0;
  for (let nth = 0; nth < runs.length; nth += RUN_FIELDS)
    end = Math.max(end, (runs[nth] ?? 0) + (runs[nth + 1] ?? 0));
  return end;
};
