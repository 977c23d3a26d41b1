#!/usr/bin/env node
// Parses on Node 14, so that an old one can say what is wrong, or hand over to the Node that npm brought along.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import * as nodeModule from "node:module";
import { constants, userInfo } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// disks that are waited for must not keep the threads that compress
process.env.UV_THREADPOOL_SIZE = process.env.UV_THREADPOOL_SIZE || "8";

const OLDEST = 24;
const self = realpathSync(fileURLToPath(import.meta.url));
const root = dirname(dirname(self));
const args = process.argv.slice(2);

const readPackage = (directory) => JSON.parse(readFileSync(join(directory, "package.json"), "utf8"));

const isNewEnough = (version) => Number.parseInt(version, 10) >= OLDEST;

/** PostgreSQL takes 1 to 125 from restore_command for the end of the archive, and gives up an archive_command above 125. */
function failureExit(usual) {
  if (!args.includes("wal")) return usual;
  if (args.includes("fetch")) return 126;
  return args.includes("push") ? 1 : usual;
}

function fail(message, hint) {
  const exitCode = failureExit(16);
  if (args.includes("--json")) {
    console.log(JSON.stringify({ error: { code: "environment", message, hint, exitCode } }));
  }
  console.error(`Error: ${message}: ${hint}`);
  process.exit(exitCode);
}

/** npm puts it inside jbackup's own folder or beside it; no other folder above is trusted with a program to run. */
function findBundledNode() {
  const name = `node-${process.platform}-${process.arch}`;
  const folders = [join(root, "node_modules")];
  for (let above = dirname(root); above !== dirname(above); above = dirname(above)) {
    if (basename(above) === "node_modules") folders.push(above);
  }
  for (const folder of folders) {
    const program = join(folder, name, "bin", "node");
    if (existsSync(program) && isNewEnough(readPackage(join(folder, name)).version)) return program;
  }
  return undefined;
}

/** A terminal sends Ctrl-C to the whole foreground group; passed on as well, it would read as a second one. */
function isInForeground() {
  try {
    const stat = readFileSync("/proc/self/stat", "utf8");
    // after the name, which may hold spaces: state ppid pgrp session tty_nr tpgid
    const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return group === foreground;
  } catch {
    return Boolean(process.stdin.isTTY);
  }
}

function handOver(program) {
  // the channel closes when this process dies, however it dies: jbackup then stops and cleans up
  const child = spawn(program, [self, ...args], { stdio: ["inherit", "inherit", "inherit", "ipc"] });
  process.on("SIGTERM", () => child.kill("SIGTERM"));
  for (const signal of ["SIGINT", "SIGHUP"]) {
    process.on(signal, () => isInForeground() || child.kill(signal));
  }
  child.on("error", (error) => {
    fail(`cannot start ${program} (${error.message})`, `install Node ${OLDEST} or newer, https://nodejs.org`);
  });
  child.on("exit", (code, signal) => {
    if (!signal) process.exit(code);
    process.removeAllListeners(signal);
    process.exitCode = 128 + constants.signals[signal];
    process.kill(process.pid, signal);
  });
}

/** Compiled code is trusted without a check, so it is kept in the user's own home, never in a shared /tmp. */
function enableCompileCache() {
  try {
    nodeModule.enableCompileCache(join(userInfo().homedir, ".cache", "jbackup", "compiled"));
  } catch {
    // a user without an entry in the password file has no home: start without a cache
  }
}

async function start() {
  const main = join(root, "dist", "main.js");
  if (!existsSync(main)) fail("jbackup is not built", "run `npm run setup`");
  enableCompileCache();
  const { run } = await import(pathToFileURL(main).href);
  await run(args);
}

if (args.length === 1 && args[0] === "--version") {
  console.log(readPackage(root).version);
} else if (isNewEnough(process.versions.node)) {
  await start().catch((error) => {
    console.error(error);
    process.exit(failureExit(1));
  });
} else {
  const program = findBundledNode();
  if (!program) {
    fail(
      `jbackup needs Node ${OLDEST} or newer and this is ${process.version}`,
      "install it from https://nodejs.org, or reinstall jbackup with its optional packages",
    );
  }
  handOver(program);
}
