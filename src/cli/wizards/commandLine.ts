import { inShell } from "../confirm.js";
import type { Options } from "../context.js";

const flagName = (key: string): string =>
  `--${key.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** The command that does what was answered, for a script or for the next time. */
export function commandLine(command: string, args: string[], options: Options): string {
  const flags = Object.entries(options).flatMap(([key, value]): string[] => {
    if (value === undefined || value === false) return [];
    if (value === true) return [flagName(key)];
    const words = Array.isArray(value) ? value : [value];
    return words.length === 0 ? [] : [flagName(key), ...words.map(inShell)];
  });
  return ["jbackup", command, ...args.map(inShell), ...flags].join(" ");
}
