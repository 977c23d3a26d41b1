import { execFileSync } from "node:child_process";
import { appendFileSync, chmodSync, chownSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestPostgres } from "./postgres.js";

export interface Standby {
  url(database?: string): string;
  promote(): void;
  stop(): void;
}

/** A streaming standby of a test's server, as whoever owns that one's files. */
export function startStandby(primary: TestPostgres): Standby {
  const folder = mkdtempSync(join(tmpdir(), "jbackup-standby-"));
  const { uid, gid } = statSync(primary.dataDirectory);
  chmodSync(folder, 0o700);
  chownSync(folder, uid, gid);
  const data = join(folder, "data");
  const program = (name: string, args: string[]): void => {
    execFileSync(join(primary.binDirectory, name), args, {
      stdio: "pipe",
      cwd: "/",
      ...(process.getuid?.() === 0 ? { uid, gid } : {}),
    });
  };
  program("pg_basebackup", ["-D", data, "-R", "-c", "fast", "-X", "stream", "-d", primary.url()]);
  appendFileSync(join(data, "postgresql.auto.conf"), `unix_socket_directories = '${folder}'\n`);
  const control = (...args: string[]): void => program("pg_ctl", ["-D", data, "-w", ...args]);
  control("-l", join(folder, "log"), "start");
  return {
    url: (database = "postgres") =>
      `postgresql://postgres@/${database}?host=${encodeURIComponent(folder)}&port=${primary.port}`,
    promote: () => control("promote"),
    stop: () => {
      try {
        control("-m", "immediate", "stop");
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}
