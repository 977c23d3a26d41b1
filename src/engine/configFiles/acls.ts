import { runProgram } from "../../sys/aside.js";
import type { Site } from "../site.js";

/** Paths for one call: a command line has its limit. */
const AT_A_TIME = 200;

/** In a name getfacl writes a backslash twice, and what is no printable letter as three octal digits behind one. */
const plainName = (written: string): string =>
  written.replace(/\\(\\|[0-7]{3})/g, (_, what: string) =>
    what === "\\" ? "\\" : String.fromCharCode(Number.parseInt(what, 8)),
  );

/** Blocks of `# file: NAME` and entries, as getfacl prints them. */
export function parseAcls(text: string): Map<string, string> {
  const acls = new Map<string, string>();
  for (const block of text.split("\n\n")) {
    const lines = block.split("\n").filter((line) => line !== "");
    const name = lines.find((line) => line.startsWith("# file: "))?.slice("# file: ".length);
    const entries = lines.filter((line) => !line.startsWith("#")).map((line) => line.replace(/\s*#.*$/, ""));
    if (name !== undefined && entries.length > 0) acls.set(plainName(name), entries.join("\n"));
  }
  return acls;
}

/** The access lists of those paths that have more than a mode; null where this host has no program that tells. */
export async function readAcls(site: Site, paths: readonly string[]): Promise<Map<string, string> | null> {
  const found = new Map<string, string>();
  for (let from = 0; from < paths.length; from += AT_A_TIME) {
    const some = paths.slice(from, from + AT_A_TIME);
    // a path that has gone meanwhile makes it end with 1, and tell about the others all the same
    const ended = await runProgram(
      "getfacl",
      ["--absolute-names", "--numeric", "--skip-base", "--", ...some],
      {
        path: site.environment.path,
        signal: site.signal,
      },
    );
    if (ended === null) return null;
    for (const [path, acl] of parseAcls(ended.stdout)) found.set(path, acl);
  }
  return found;
}

/** Answers why it could not be set; null when it was. */
export async function writeAcl(site: Site, path: string, acl: string): Promise<string | null> {
  const ended = await runProgram("setfacl", ["--set-file=-", "--", path], {
    path: site.environment.path,
    signal: site.signal,
    input: `${acl}\n`,
  });
  if (ended === null) return "setfacl is not installed";
  return ended.code === 0 ? null : ended.stderr.trim() || `setfacl ended with code ${ended.code}`;
}
