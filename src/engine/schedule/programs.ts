import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { inShell } from "../../domain/shell.js";
import type { Site } from "../site.js";

const LIMIT_MS = 60_000;

async function shell(
  site: Site,
  script: string,
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return site.shell(script, {
    variables: site.environment.without(site.config.secretVariables),
    directory: "/",
    signal: AbortSignal.any([site.signal, AbortSignal.timeout(LIMIT_MS)]),
    onStart: () => undefined,
    onErrorLine: () => undefined,
  });
}

async function must(site: Site, script: string, hint: string): Promise<string> {
  const { code, stdout, stderr } = await shell(site, script);
  if (code === 0) return stdout;
  throw new JBackupError(
    "tool_failed",
    `${script.split("\n")[0]} failed: ${stderr.trim() || `exit ${code}`}`,
    {
      hint,
    },
  );
}

/** The service manager of the system, or of this user. */
export function systemctl(site: Site) {
  const text = (words: readonly string[]): string =>
    ["systemctl", ...(site.environment.isRoot ? [] : ["--user"]), ...words.map(inShell)].join(" ");
  const isRunning = async (): Promise<boolean> => {
    // "degraded" is a system where some unit failed, and runs all the same
    const { stdout } = await shell(site, text(["is-system-running"]));
    return ["running", "degraded", "starting", "initializing"].includes(stdout.trim());
  };
  return {
    text,
    isRunning,
    run: (words: readonly string[]) =>
      must(site, text(words), "look at what it says, or give --dir and install the files yourself"),
    requireRunning: async (): Promise<void> => {
      if (await isRunning()) return;
      throw new JBackupError("environment", "systemd does not run this system", {
        hint: "jbackup schedule install cron, or jbackup schedule run as a service; --dir DIR only writes the files",
      });
    },
  };
}

export async function readCrontab(site: Site): Promise<string> {
  const { code, stdout, stderr } = await shell(site, "crontab -l");
  if (code === 0) return stdout;
  if (/no crontab for/i.test(stderr)) return "";
  throw new JBackupError("environment", `crontab -l failed: ${stderr.trim() || `exit ${code}`}`, {
    hint: "install the package cron, or use jbackup schedule install systemd or jbackup schedule run",
  });
}

export async function writeCrontab(site: Site, text: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "jbackup-crontab-"));
  try {
    const file = join(folder, "crontab");
    await writeFile(file, text, { mode: 0o600 });
    await must(site, `crontab ${inShell(file)}`, "the crontab was not changed; look at what crontab says");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
