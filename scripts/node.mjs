import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root, stop } from "./stage.mjs";

const OLDEST = 24;

export const runningNodeIsNewEnough = Number.parseInt(process.versions.node, 10) >= OLDEST;

/** The package that carries Node for this machine; npm installs it only where it fits. */
export const nodePackage = `node-${process.platform}-${process.arch}`;

export function chooseNode() {
  if (runningNodeIsNewEnough) return process.execPath;
  const bundled = join(root, "node_modules", nodePackage, "bin", "node");
  const tried = spawnSync(bundled, ["--version"]);
  if (tried.status === 0) return bundled;
  throw stop(
    `jbackup needs Node ${OLDEST} or newer, this is ${process.version}, and npm carries none for ${process.platform}-${process.arch}: install it from https://nodejs.org`,
    16,
  );
}
