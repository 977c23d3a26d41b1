import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { findOldNode, install, repository, version } from "./installation.js";

// the throwaway files of these tests have no business in the user's cache
process.env.NODE_DISABLE_COMPILE_CACHE = "1";

const ECHO = "export const run = async (argv) => console.log(JSON.stringify([process.versions.node, argv]));";
const EXIT_3 = "export const run = async () => process.exit(3);";

/** Reports its process id and each signal, ends soon after one (a second would still be seen) or when its parent is gone. */
const WAIT = `export const run = async () => {
  setInterval(() => {}, 1000);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => { console.log(name); setTimeout(() => process.exit(143), 300); });
  process.on("disconnect", () => process.exit(143));
  console.log(process.pid);
};`;

const call = (node: string, jbackup: string, ...args: string[]) => {
  const { status, signal, stdout, stderr } = spawnSync(node, [jbackup, ...args], { encoding: "utf8" });
  return { status, signal, stdout, stderr };
};

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

async function untilGone(pid: number): Promise<void> {
  for (let waited = 0; isAlive(pid) && waited < 5000; waited += 20) await delay(20);
  expect(isAlive(pid)).toBe(false);
}

/** Starts jbackup in a session without a terminal and waits for the process id that WAIT prints. */
async function startWaiting(
  node: string,
): Promise<{ parent: ChildProcess; worker: number; said: () => string }> {
  const parent = spawn(node, [install(WAIT).jbackup], {
    stdio: ["ignore", "pipe", "inherit"],
    detached: true,
  });
  let said = "";
  parent.stdout.on("data", (chunk) => {
    said += chunk;
  });
  await once(parent.stdout, "data");
  const worker = Number.parseInt(said, 10);
  onTestFinished(() => {
    if (isAlive(worker)) process.kill(worker, "SIGKILL");
  });
  return { parent, worker, said: () => said };
}

describe("on a Node that is new enough", () => {
  test("a symbolic link runs jbackup with its arguments", () => {
    const { status, stdout } = call(process.execPath, install(ECHO).jbackup, "list", "--json");
    expect(JSON.parse(stdout)).toEqual([process.versions.node, ["list", "--json"]]);
    expect(status).toBe(0);
  });

  test("the file is executable by its own first line", () => {
    const { jbackup } = install(ECHO);
    const path = [dirname(process.execPath), process.env.PATH].join(delimiter);
    const { stdout } = spawnSync(jbackup, ["list"], {
      encoding: "utf8",
      env: { ...process.env, PATH: path },
    });
    expect(JSON.parse(stdout)).toEqual([process.versions.node, ["list"]]);
  });

  test("without a build it says how to make one", () => {
    expect(call(process.execPath, install(undefined).jbackup, "list")).toEqual({
      status: 16,
      signal: null,
      stdout: "",
      stderr: "Error: jbackup is not built: run `npm run setup`\n",
    });
  });

  test("without a build and under --json, the answer is one JSON document", () => {
    const { status, stdout } = call(process.execPath, install(undefined).jbackup, "list", "--json");
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: "environment",
        message: "jbackup is not built",
        hint: "run `npm run setup`",
        exitCode: 16,
      },
    });
    expect(status).toBe(16);
  });

  test.each([
    ["is not built", undefined],
    ["is broken", 'import "./nothing.js";'],
    ["fails at once", 'export const run = async () => { throw new Error("x"); };'],
  ])("where jbackup %s, PostgreSQL neither ends a recovery nor gives up archiving", (_how, main) => {
    const { jbackup } = install(main);
    const segment = "000000010000000000000001";
    expect(call(process.execPath, jbackup, "wal", "fetch", segment, "pg_wal/RECOVERYXLOG").status).toBe(126);
    expect(call(process.execPath, jbackup, "wal", "push", `pg_wal/${segment}`).status).toBe(1);
  });

  test("--version needs no build", () => {
    const { status, stdout } = call(process.execPath, install(undefined).jbackup, "--version");
    expect([status, stdout]).toEqual([0, `${version()}\n`]);
  });

  test("--version takes at most twice the time of the bare runtime", { retry: 2 }, () => {
    const bare = join(install(undefined).directory, "bare.cjs");
    writeFileSync(bare, "");
    const jbackup = join(repository, "bin/jbackup.js");
    const times: Record<"bare" | "version", number[]> = { bare: [], version: [] };
    // taken in turns, so that a busy moment of the machine slows both
    for (let round = 0; round < 15; round++) {
      for (const [kind, args] of [["bare", [bare]] as const, ["version", [jbackup, "--version"]] as const]) {
        const startedAt = performance.now();
        spawnSync(process.execPath, args);
        times[kind].push(performance.now() - startedAt);
      }
    }
    const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
    expect(median(times.version)).toBeLessThan(2 * median(times.bare));
  });
});

const found = findOldNode();
const skipped = "reason" in found ? ` (skipped: ${found.reason})` : "";

describe.skipIf("reason" in found)(`on a Node that is too old${skipped}`, () => {
  const oldNode = "path" in found ? found.path : "";

  test("jbackup runs on the bundled one", () => {
    const { status, stdout } = call(oldNode, install(ECHO).jbackup, "list", "--json");
    const [node, argv] = JSON.parse(stdout);
    expect(Number.parseInt(node, 10)).toBeGreaterThanOrEqual(24);
    expect(argv).toEqual(["list", "--json"]);
    expect(status).toBe(0);
  });

  test("without a bundled one it says what to install", () => {
    const { status, stderr } = call(oldNode, install(ECHO, { bundled: false }).jbackup, "list");
    expect(stderr).toMatch(
      /^Error: jbackup needs Node 24 or newer and this is v[\d.]+: install it from https:\/\/nodejs\.org, or reinstall jbackup with its optional packages\n$/,
    );
    expect(status).toBe(16);
  });

  test("a bundled one that cannot be started is named", () => {
    const { directory, jbackup } = install(ECHO, { bundled: false });
    const home = join(directory, "node_modules", `node-${process.platform}-${process.arch}`);
    mkdirSync(join(home, "bin"), { recursive: true });
    writeFileSync(join(home, "package.json"), '{"version":"26.0.0"}');
    writeFileSync(join(home, "bin", "node"), "#!/nowhere/sh\n");
    chmodSync(join(home, "bin", "node"), 0o755);
    const { status, stderr } = call(oldNode, jbackup, "list");
    expect(stderr).toContain(`Error: cannot start ${join(home, "bin", "node")} (`);
    expect(status).toBe(16);
  });

  test("--version answers without the bundled one", () => {
    const { status, stdout } = call(oldNode, install(undefined, { bundled: false }).jbackup, "--version");
    expect([status, stdout]).toEqual([0, `${version()}\n`]);
  });

  test("a project's own link in node_modules/.bin works too", () => {
    const { directory } = install(ECHO);
    mkdirSync(join(directory, "node_modules", ".bin"));
    const link = join(directory, "node_modules", ".bin", "jbackup");
    symlinkSync("../jbackup/bin/jbackup.js", link);
    expect(JSON.parse(call(oldNode, link, "list").stdout)[1]).toEqual(["list"]);
  });

  test("the exit code is passed on", () => {
    expect(call(oldNode, install(EXIT_3).jbackup).status).toBe(3);
  });

  test("death by a signal is passed on", () => {
    const main = 'export const run = async () => process.kill(process.pid, "SIGKILL");';
    expect(call(oldNode, install(main).jbackup).signal).toBe("SIGKILL");
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("%s reaches jbackup once", async (name) => {
    const { parent, worker, said } = await startWaiting(oldNode);
    parent.kill(name);
    const [code] = await once(parent, "close");
    expect(said()).toBe(`${worker}\n${name}\n`);
    expect(code).toBe(143);
  });

  test("Ctrl-C on a terminal, which reaches the whole group, counts once", async () => {
    // a shell that stays in between would take the signal too, and answer with its own code
    const line = ["exec", oldNode, install(WAIT).jbackup].join(" ");
    const terminal = spawn("script", ["-qec", line, "/dev/null"], { stdio: ["pipe", "pipe", "inherit"] });
    let said = "";
    terminal.stdout.on("data", (chunk) => {
      said += chunk;
    });
    await once(terminal.stdout, "data");
    terminal.stdin.write("\x03");
    const [code] = await once(terminal, "close");
    expect(said.match(/SIGINT/g)).toEqual(["SIGINT"]);
    expect(code).toBe(143);
  });

  test("SIGKILL of the parent ends jbackup", async () => {
    const { parent, worker } = await startWaiting(oldNode);
    expect(worker).not.toBe(parent.pid);
    parent.kill("SIGKILL");
    await untilGone(worker);
  });
});
