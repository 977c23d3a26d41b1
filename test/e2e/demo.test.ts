import { execFileSync, spawn } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BIN } from "../support/site.js";

let place: string;
beforeAll(() => {
  place = mkdtempSync(join(tmpdir(), "jbackup-demos-"));
  chmodSync(place, 0o755); // the server's user passes through
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

const processesBelow = (folder: string): string[] =>
  execFileSync("ps", ["-eo", "args"], { encoding: "utf8" })
    .split("\n")
    .filter((line) => line.includes(folder));

interface Told {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the demo in a temporary folder of its own; stops it when a line of the story is told. */
function runDemo(args: string[], stopAt?: string): Promise<Told> {
  const child = spawn(process.execPath, [BIN, "demo", ...args], {
    env: { PATH: process.env.PATH, HOME: place, TMPDIR: place },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const told: Told = { code: null, stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    told.stdout += text;
    if (stopAt !== undefined && told.stdout.includes(stopAt)) child.kill("SIGINT");
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    told.stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ ...told, code }));
  });
}

test("everything comes back after four disasters, by fingerprints that differ from one another", async () => {
  const { code, stdout, stderr } = await runDemo(["--json"]);
  expect([code, stderr.includes('"warning"')]).toEqual([0, false]);
  const told = JSON.parse(stdout);
  expect(told).toMatchObject({
    ok: true,
    backup: { method: "physical", status: "completed", copies: [{}, {}, {}] },
    restores: [
      { mode: "pitr", status: "completed" },
      { mode: "pitr", status: "completed", tenantIds: [expect.any(String)] },
    ],
  });
  const [dropped, tenant, others, disks, list] = told.proofs;
  for (const { lines } of told.proofs)
    for (const { expected, seen } of lines)
      expect([seen, expected]).toEqual([expected, expect.stringMatching(/^[0-9a-f]{64}$/)]);
  expect(dropped.lines.find(({ what }: { what: string }) => what === "app.sale_items").rows).toBe(64_120);
  for (const { lines } of [dropped, tenant, others])
    expect(new Set(lines.map(({ expected }: { expected: string }) => expected)).size).toBe(lines.length);
  expect(tenant.lines.every(({ rows }: { rows: number }) => rows > 0)).toBe(true);
  expect(disks.lines).toHaveLength(3);
  expect(list.lines[0].rows).toBe(38); // the full one, 36 active tenants, and the tenant of the moment before
  expect(readdirSync(place)).toEqual([]);
  expect(processesBelow(place)).toEqual([]);
});

test.each(["A shop with 40 tenants", "Disaster 2"])(
  "Ctrl-C after '%s' leaves no file and no server behind",
  async (line) => {
    const { code, stdout, stderr } = await runDemo([], line);
    expect(stdout).toContain(line);
    expect(stderr).toMatch(/Error: interrupted; what was begun has been taken back/);
    expect(code).toBe(130);
    expect(readdirSync(place)).toEqual([]);
    expect(processesBelow(place)).toEqual([]);
  },
);
