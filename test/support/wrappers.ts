import { mkdtemp, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PROGRAMS = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];

/**
 * A folder with the real client programs, some of them behind a shell script that misbehaves. In a script `$REAL` is the
 * real program. What asks for the version is always answered truly, else nothing would get as far as the fault.
 */
export async function wrapPrograms(binDirectory: string, scripts: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "jbackup-programs-"));
  for (const program of PROGRAMS) {
    const real = join(binDirectory, program);
    const script = scripts[program];
    if (script === undefined) {
      await symlink(real, join(folder, program));
      continue;
    }
    const text = `#!/bin/sh\nREAL=${real}\n[ "$1" = --version ] && exec "$REAL" "$@"\n${script}\n`;
    await writeFile(join(folder, program), text, { mode: 0o755 });
  }
  return folder;
}
