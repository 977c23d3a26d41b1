import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { JBackupError } from "../domain/errors.js";
import { binariesFor } from "./logicalDump.js";
import { startTool, type ToolEnvironment } from "./tools.js";

export interface ReadDumpSettings {
  environment: ToolEnvironment;
  binDirectory: string | "auto";
  signal: AbortSignal;
}

/** The whole archive through pg_restore into nothing: its list may be complete where its data is cut off. */
export async function readDumpThrough(
  archive: AsyncIterable<Buffer>,
  clientMajor: number,
  { environment, binDirectory, signal }: ReadDumpSettings,
): Promise<void> {
  const { path } = await binariesFor("pg_restore", clientMajor, { environment, binDirectory });
  const run = startTool(join(path, "pg_restore"), ["--file=/dev/null"], {
    environment,
    signal,
    input: "pipe",
  });
  run.stdout.resume();
  if (run.stdin === null) throw new JBackupError("bug", "pg_restore has no input");
  const fed = pipeline(Readable.from(archive), run.stdin).then(
    () => null,
    (error: unknown) => error,
  );
  const [refusal, broken] = await Promise.all([
    run.done.then(
      () => null,
      (error: unknown) => error,
    ),
    fed,
  ]);
  signal.throwIfAborted();
  // it stops reading at what it cannot make sense of: that it was not fed to the end is then no news
  if (broken instanceof JBackupError) throw broken;
  if (refusal !== null) throw refusal;
  if (broken !== null) throw broken;
}
