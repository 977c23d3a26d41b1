import { JBackupError } from "./errors.js";
import { inShell } from "./shell.js";

/** Where a command runs from: nothing of the environment that it was installed in can be relied on. */
export interface RunPlace {
  site: string;
  /** The program and its script, absolute. */
  program: readonly string[];
  configFile: string;
  home: string;
  path: string;
  /** A file of NAME=value lines, read before every run; null where the configuration names no variables. */
  environmentFile: string | null;
}

/** No line of a unit or a crontab can hold these. */
export function refuseControlCharacters(place: RunPlace): void {
  for (const text of Object.values(place).flat())
    if (typeof text === "string" && /\p{Cc}/u.test(text))
      throw new JBackupError("usage", `${JSON.stringify(text)} has a control character in it`, {
        hint: "give that file or folder another name, or correct PATH; then install again",
      });
}

/** Not every cron knows `5/10` without an end. */
export function portableTimes(text: string): string {
  const last = [59, 23, 31, 12, 6];
  return text
    .trim()
    .split(/\s+/)
    .map((field, at) => field.replace(/(^|,)([0-9a-z]+)\/(\d+)/gi, `$1$2-${last[at]}/$3`))
    .join(" ");
}

const beginMark = (site: string): string => `# begin jbackup ${site} (made by: jbackup schedule install)`;
const endMark = (site: string): string => `# end jbackup ${site}`;

/** One job as a line of a crontab. cron takes a bare % for the end of the line. */
export function crontabLine(times: string, words: readonly string[], place: RunPlace): string {
  refuseControlCharacters(place);
  const { program, configFile, home, path, environmentFile } = place;
  const fileOfVariables = environmentFile === null ? [] : ["--environment-file", environmentFile];
  const variables = { PATH: path, JBACKUP_HOME: home };
  const command = [
    ...Object.entries(variables).map(([name, value]) => `${name}=${inShell(value)}`),
    ...[...program, ...words, "--config", configFile, ...fileOfVariables, "--quiet", "--no-input"].map(
      inShell,
    ),
    "> /dev/null",
  ].join(" ");
  // some crons take both away, some one, some none
  if (/\\[\\%]/.test(command))
    throw new JBackupError(
      "usage",
      "no cron can be told a path with a backslash before another one or before %",
      {
        hint: "give that file or folder another name, or use jbackup schedule install systemd",
      },
    );
  return `${portableTimes(times)} ${command.replaceAll("%", "\\%")}`;
}

/** A crontab with these lines between the site's marks, in place of those that stood there. No other byte changes. */
export function withLines(crontab: string, site: string, lines: readonly string[]): string {
  const { before, after, isFound } = apart(crontab, site);
  const block = lines.length === 0 ? "" : [beginMark(site), ...lines, endMark(site), ""].join("\n");
  const gap = !isFound && block !== "" && before !== "" && !before.endsWith("\n") ? "\n" : "";
  return before + gap + block + after;
}

export const hasLines = (crontab: string, site: string): boolean => apart(crontab, site).isFound;

function apart(crontab: string, site: string): { before: string; after: string; isFound: boolean } {
  const lines = crontab.split(/(?<=\n)/);
  const at = (mark: string): number => lines.findIndex((line) => line.trimEnd() === mark);
  const [begin, end] = [at(beginMark(site)), at(endMark(site))];
  if (begin === -1 || end < begin) return { before: crontab, after: "", isFound: false };
  return {
    before: lines.slice(0, begin).join(""),
    after: lines.slice(end + 1).join(""),
    isFound: true,
  };
}
