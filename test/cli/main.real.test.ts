import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const program = fileURLToPath(new URL("../../bin/jbackup.js", import.meta.url));
const home = mkdtempSync(join(tmpdir(), "jbackup-main-"));
const config = join(home, "jbackup.yaml");

/** Accepts and says nothing: whoever asks it waits until he is told to stop. */
const silent = createServer(() => undefined);

beforeAll(async () => {
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const at = `postgresql://ops:hunter22@127.0.0.1:${(silent.address() as AddressInfo).port}`;
  writeFileSync(config, `site: shop\ndatabase: {url: "${at}/shop"}\ncatalog: {url: "${at}/catalog"}\n`);
});
afterAll(() => {
  silent.close();
  rmSync(home, { recursive: true });
});

const env = { ...process.env, JBACKUP_HOME: home, JBACKUP_CONFIG: config };

interface Waiting {
  child: ChildProcess;
  ended: Promise<{ code: number | null; stdout: string; stderr: string; ms: number }>;
}

/** Starts a command and waits until it hangs on the silent server. */
async function startWaiting(...argv: string[]): Promise<Waiting> {
  const connected = once(silent, "connection");
  const child = spawn(process.execPath, [program, ...argv], {
    env,
    stdio: ["ignore", "pipe", "pipe", "ipc"],
  });
  const said = { stdout: "", stderr: "" };
  const closed = [
    once(child, "exit"),
    once(child.stdout ?? child, "close"),
    once(child.stderr ?? child, "close"),
  ];
  for (const name of ["stdout", "stderr"] as const)
    child[name]?.on("data", (chunk) => {
      said[name] += chunk;
    });
  await connected;
  const from = performance.now();
  const ended = Promise.all(closed).then(() => ({
    code: child.exitCode,
    ...said,
    ms: performance.now() - from,
  }));
  return { child, ended };
}

describe("a command that waits for a silent server", () => {
  test.each([
    ["SIGINT", 130, "interrupted"],
    ["SIGTERM", 143, "terminated"],
    ["SIGHUP", 143, "terminated"],
  ] as const)("ends at once on %s with exit %i", async (signal, exit, word) => {
    const { child, ended } = await startWaiting("list");
    child.kill(signal);
    const { code, stdout, stderr, ms } = await ended;
    expect([code, stdout]).toEqual([exit, ""]);
    expect(stderr).toBe(`Error: ${word}; what was begun has been taken back\n`);
    expect(ms).toBeLessThan(3_000);
  });

  test("ends when its launcher is gone, even before it could look", async () => {
    const argv = [program, "list"];
    const child = spawn(process.execPath, argv, { env, stdio: ["ignore", "ignore", "ignore", "ipc"] });
    child.disconnect();
    await once(child, "exit");
    expect(child.exitCode).toBe(143);
  });

  test("ends when its launcher is gone", async () => {
    const { child, ended } = await startWaiting("list", "--json");
    child.disconnect();
    const { code, stdout, stderr } = await ended;
    expect([code, stderr]).toEqual([143, ""]);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: "terminated", exitCode: 143 } });
  });
});

describe("a clean-up that hangs", () => {
  test("is cut short by a second signal, but not by the echo of the first", async () => {
    const { child, ended } = await startWaiting("keys", "rotate");
    child.kill("SIGINT");
    await delay(100);
    child.kill("SIGINT");
    await delay(1_000);
    expect(child.exitCode).toBeNull();
    child.kill("SIGINT");
    const { code, stderr } = await ended;
    expect(code).toBe(130);
    expect(stderr).toBe(
      "stopping: what was begun is being taken back\nError: interrupted again: stopped without clean-up\nTry: the next run sweeps up what this one left\n",
    );
  });

  test("ends within ten seconds by itself", async () => {
    const { child, ended } = await startWaiting("keys", "rotate");
    child.kill("SIGTERM");
    const { code, stderr, ms } = await ended;
    expect([code, stderr.split("\n")[1]]).toEqual([143, "Error: terminated; the clean-up took too long"]);
    expect(ms).toBeLessThan(10_500);
  });
});

describe("a reader that goes away", () => {
  test("is no failure", () => {
    const { stdout, stderr } = spawnSync(
      "bash",
      ["-c", '"$0" "$1" completion fish | head -1; echo "$PIPESTATUS"', process.execPath, program],
      { encoding: "utf8", env },
    );
    expect([stdout, stderr]).toEqual(["# jbackup completion fish | source\n0\n", ""]);
  });

  test("but a full disk is one", () => {
    const full = openSync("/dev/full", "w");
    const { status, stderr } = spawnSync(process.execPath, [program, "help"], {
      encoding: "utf8",
      env,
      stdio: ["ignore", full, "pipe"],
    });
    closeSync(full);
    expect([status, stderr]).toEqual([
      1,
      "Error: the answer could not be written: ENOSPC: no space left on device, write\n",
    ]);
  });
});

test("a start loads neither zod nor a database driver nor a storage client", () => {
  const probe = `import { registerHooks } from "node:module";
    registerHooks({ load: (url, context, next) => { console.error(url); return next(url, context); } });`;
  const { status, stderr } = spawnSync(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(probe)}`, program, "--help"],
    { encoding: "utf8", env },
  );
  expect(status).toBe(0);
  expect(stderr).toContain("node_modules/commander/");
  const packages = [...stderr.matchAll(/node_modules\/((?:@[^/]+\/)?[^/]+)/g)].map(([, name]) => name);
  expect([...new Set(packages)].sort()).toEqual(["commander", "picocolors"]);
});
