import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Redactor } from "../../../src/cli/redact.js";
import { readEnvironment } from "../../../src/config/environment.js";
import { type ActContext, act } from "../../../src/engine/dr/act.js";
import { realGround } from "../../../src/engine/dr/ground.js";
import type { Site } from "../../../src/engine/site.js";
import { runShell } from "../../../src/sys/aside.js";

const folder = mkdtempSync(join(tmpdir(), "jbackup-shell-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = join(folder, "secret");
writeFileSync(file, "in-a-file-99\n");

const redactor = new Redactor();
const site = {
  environment: readEnvironment({ PATH: process.env.PATH, R2_SECRET: "in-the-environment", HOME: folder }),
  config: { secretVariables: new Set(["R2_SECRET"]), secretFiles: [file, join(folder, "missing")] },
  signal: new AbortController().signal,
  shell: runShell,
  onSecret: (text: string) => redactor.add(text),
  redact: (value: unknown) => redactor.cleanValue(value),
} as unknown as Site;
const context = {
  site,
  ground: realGround(site),
  step: "look",
  run: "1",
  watcher: { onStart: () => undefined, onErrorLine: () => undefined },
} as unknown as ActContext;
const shell = (script: string) => act({ kind: "shell", script }, context);

test("a script of a runbook is handed no secret of the configuration, and all else", async () => {
  expect((await shell('echo "<$R2_SECRET> $HOME"')).text).toBe(`<> ${folder}`);
});

test("what a script prints of a secret is not kept, whether it succeeds or fails", async () => {
  const seen = await shell(`cat ${file}; echo in-the-environment # in-a-file-99`);
  expect([seen.text, seen.what]).toEqual(["***; ***", `cat ${file}; echo *** # ***`]);
  await expect(shell(`cat ${file} >&2; exit 3`)).rejects.toMatchObject({
    code: "tool_failed",
    message: "the script ended with code 3: ***",
  });
});
