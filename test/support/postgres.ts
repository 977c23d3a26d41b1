import { tmpdir } from "node:os";
import {
  type ScratchCluster,
  type ScratchSettings,
  startScratchCluster,
} from "../../src/postgres/scratchCluster.js";
import { findBinDirectories } from "../../src/postgres/tools.js";

export const environment = { path: process.env.PATH ?? "", home: process.env.HOME ?? "/" };

export type TestPostgres = ScratchCluster;

/** A PostgreSQL of the test's own, from whatever server binaries this machine has. */
export async function startPostgres(extra: Partial<ScratchSettings> = {}): Promise<TestPostgres> {
  const [newest] = await findBinDirectories("initdb", environment);
  if (!newest) throw new Error("no PostgreSQL server binaries found: install the package postgresql");
  return startScratchCluster({ parentDirectory: tmpdir(), binDirectory: newest.path, environment, ...extra });
}
