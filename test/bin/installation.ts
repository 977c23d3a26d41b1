import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";

export const repository = fileURLToPath(new URL("../..", import.meta.url));
const bundledNode = join("node_modules", `node-${process.platform}-${process.arch}`);

export interface Installation {
  /** The symbolic link that a user would call. */
  jbackup: string;
  directory: string;
}

/** jbackup installed as a package of its own, running the given `dist/main.js`, with the bundled Node hoisted above it. */
export function install(main: string | undefined, { bundled = true } = {}): Installation {
  const directory = mkdtempSync(join(tmpdir(), "jbackup-bin-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const home = join(directory, "node_modules", "jbackup");
  mkdirSync(join(home, "bin"), { recursive: true });
  copyFileSync(join(repository, "bin/jbackup.js"), join(home, "bin/jbackup.js"));
  copyFileSync(join(repository, "package.json"), join(home, "package.json"));
  if (main !== undefined) {
    mkdirSync(join(home, "dist"));
    writeFileSync(join(home, "dist", "main.js"), main);
  }
  if (bundled) symlinkSync(join(repository, bundledNode), join(directory, bundledNode));
  mkdirSync(join(directory, "bin"));
  symlinkSync("../node_modules/jbackup/bin/jbackup.js", join(directory, "bin", "jbackup"));
  return { directory, jbackup: join(directory, "bin", "jbackup") };
}

export const version = (): string =>
  JSON.parse(readFileSync(join(repository, "package.json"), "utf8")).version;

/** The machine's own Node where it is too old for jbackup, else the reason why there is none. */
export function findOldNode(): { path: string } | { reason: string } {
  for (const directory of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(directory, "node");
    if (directory === "" || directory.includes("node_modules") || directory === dirname(process.execPath))
      continue;
    const major = Number.parseInt(spawnSync(path, ["--version"], { encoding: "utf8" }).stdout?.slice(1), 10);
    if (major < 24) return { path };
    if (major >= 24) return { reason: `the node on PATH is ${major}` };
  }
  return { reason: "no node on PATH" };
}
