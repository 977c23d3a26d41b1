import type { ConfigRecord } from "../../domain/configBackup.js";

const MOST_NAMED = 10;

/** What could not be brought back of files that are there: each kind said once, with the paths. */
export class Losses {
  readonly #lost = new Map<string, string[]>();

  readonly add = (what: "owner" | "acl", record: ConfigRecord, why: string): void => {
    const text =
      what === "owner"
        ? `the owner ${record.user ?? record.uid}:${record.group ?? record.gid} was not restored (${why})`
        : `the access list was not restored (${why})`;
    this.#lost.set(text, [...(this.#lost.get(text) ?? []), record.path]);
  };

  warnings(): string[] {
    return [...this.#lost].map(([text, paths]) => {
      const named = paths.slice(0, MOST_NAMED).join(", ");
      return `${text}: ${named}${paths.length > MOST_NAMED ? `, and ${paths.length - MOST_NAMED} more` : ""}`;
    });
  }
}
