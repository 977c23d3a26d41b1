import { spawnSync } from "node:child_process";
import { unprivilegedOwner } from "../../src/postgres/scratchCluster.js";
import { BIN } from "./site.js";

/** Whether the user that servers run as can run jbackup where it lies: not when the clone is in somebody's private folder. */
export async function canServerUserRun(): Promise<boolean> {
  const owner = await unprivilegedOwner();
  const ran = spawnSync(process.execPath, [BIN, "--version"], { cwd: "/", ...owner });
  return ran.status === 0;
}
