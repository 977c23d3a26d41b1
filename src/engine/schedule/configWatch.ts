import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { raiseAlert, resolveAlert } from "../alert.js";
import { deliverAlerts } from "../alerts/deliver.js";
import type { Site } from "../site.js";
import { stamped } from "./stamped.js";

const FINGERPRINT = "schedule:config";

const textOf = (file: string): Promise<string | null> => readFile(file, "utf8").catch(() => null);

/**
 * The configuration file under a daemon. A change that can be used is; one that cannot is told once, and until it is mended the jobs
 * are run with the text that was good, from a copy.
 */
export class ConfigWatch {
  readonly #copy: string;
  /** What the schedule goes by. */
  #good: string | null;
  /** Seen once: an editor may be in the middle of writing. */
  #seen: string | null;
  /** Told already. */
  #refused: { text: string | null } | null = null;

  private constructor(home: string, text: string | null) {
    this.#copy = join(home, "schedule", "config-in-use.yaml");
    this.#good = text;
    this.#seen = text;
  }

  /** Of a site that has just been opened, so that its file is good: also where the daemon before this one refused it. */
  static async begin(site: Site): Promise<ConfigWatch> {
    const { config } = site;
    const watch = new ConfigWatch(config.home, await textOf(config.file));
    await watch.end();
    await resolveAlert(site, FINGERPRINT, "the daemon began with a configuration that can be used");
    return watch;
  }

  /** The site as the daemon uses it: its lines say when, and its jobs read the configuration that is in use. */
  onto(site: Site): Site {
    const { environment } = site;
    const without = (names: ReadonlySet<string>): Record<string, string> => ({
      ...environment.without(names),
      ...(this.#refused === null ? {} : { JBACKUP_CONFIG_IN_USE: this.#copy }),
    });
    return { ...site, report: stamped(site), environment: { ...environment, without } };
  }

  /** The site as the file says now, to be used from now on; null while there is nothing new, or nothing good. */
  async look(site: Site, isAsked: boolean): Promise<Site | null> {
    const text = await textOf(site.config.file);
    if (!isAsked) {
      if (text === this.#good) return this.#backAgain(site);
      if (text === this.#refused?.text) return null;
      const isSettled = text === this.#seen;
      this.#seen = text;
      if (!isSettled) return null;
    }
    try {
      const fresh = await reopened(site);
      await this.#accept(site, text);
      return fresh;
    } catch (error) {
      if (!(error instanceof JBackupError)) throw error;
      await this.#refuse(site, text, error);
      return null;
    }
  }

  async #backAgain(site: Site): Promise<null> {
    this.#seen = this.#good;
    if (this.#refused !== null) await this.#accept(site, this.#good);
    return null;
  }

  async #accept(site: Site, text: string | null): Promise<void> {
    this.#good = text;
    this.#seen = text;
    if (this.#refused !== null) {
      this.#refused = null;
      await this.end();
      site.report.info("the configuration can be used again");
    }
    await resolveAlert(site, FINGERPRINT, "the configuration can be used again");
  }

  async #refuse(site: Site, text: string | null, { message, hint }: JBackupError): Promise<void> {
    // without a copy the jobs take the file as it is, and tell by themselves what is wrong with it
    if (this.#good !== null) await writeFileAtomic(this.#copy, this.#good, { overwrite: true });
    this.#refused = { text };
    const told = `the changed configuration cannot be used, so the schedule goes on with the one before: ${message.replace(/\n\s*/g, " ")}`;
    site.report.warn(told);
    await raiseAlert(site, {
      type: "BACKUP_FAILURE",
      severity: "error",
      fingerprint: FINGERPRINT,
      message: told,
      hint: hint ?? "correct it, then run jbackup config validate",
    });
    await deliverAlerts(site);
  }

  /** It may hold secrets: it is there only while it is needed. */
  async end(): Promise<void> {
    await rm(this.#copy, { force: true });
  }
}

/** Locks, units and records bear the site's name: another site is another daemon's. */
async function reopened(site: Site): Promise<Site> {
  const fresh = await site.reopen();
  const { file, site: name } = fresh.config;
  if (file === site.config.file && name === site.config.site) return fresh;
  await fresh.close();
  throw new JBackupError(
    "config_invalid",
    `${file} is of site ${name}, and this daemon runs ${site.config.site}`,
    {
      hint: "end the daemon and start it anew, with jbackup schedule run",
    },
  );
}
