import { existsSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { JBackupError } from "../../domain/errors.js";
import { KEEPS, type Keep, type SiteDraft } from "../../domain/siteDraft.js";
import type { SiteFiles } from "../../engine/setUp.js";
import type { Options } from "../context.js";
import { choiceFlag, countFlag, isSet, textFlag } from "../flags.js";
import type { Ask } from "./ask.js";
import { commandLine } from "./commandLine.js";
import { channelSpec, channelVariable, chooseChannel } from "./initAlerts.js";
import { chooseServer } from "./initServer.js";
import { chooseStorages } from "./initStorages.js";
import { chooseTenants } from "./initTenants.js";
import type { Scene } from "./scene.js";
import { credentialVariables, storageSpec } from "./storageSpec.js";

export interface Decided {
  draft: SiteDraft;
  files: SiteFiles;
  hasBackup: boolean;
}

/** Seven steps. Nothing is written before all of them are answered. */
export async function decideSite(scene: Scene): Promise<Decided> {
  const { ask, context } = scene;
  const { report } = context.output;
  const step = (nth: number, what: string): void => {
    if (ask !== null) report.info(`Step ${nth} of 7: ${what}`);
  };
  const files = await chooseFiles(scene);
  await scene.setUp.requireFree(files);
  step(1, "the database");
  const { url, looked } = await chooseServer(scene);
  try {
    const site = await chooseSite(scene, looked.server.database);
    step(2, "where backups go");
    const { drafts } = await chooseStorages(scene, site);
    step(3, "whose rows are whose");
    const tenants = await chooseTenants(scene, looked);
    step(4, "how long backups are kept");
    const keep = await chooseKeep(scene);
    step(5, "when");
    const hour = await chooseHour(scene);
    step(6, "who is told");
    const channel = await chooseChannel(scene, site);
    const configFiles = configFilesFor(files);
    const draft: SiteDraft = { site, url, storages: drafts, tenants, keep, hour, channel, configFiles };
    step(7, "look at it once more");
    const hasBackup = await chooseBackup(scene);
    await confirm(scene, draft, files, hasBackup);
    return { draft, files, hasBackup };
  } finally {
    await looked.close();
  }
}

/** PostgreSQL's own settings and those of jbackup: a bare host is rebuilt from them. */
const configFilesFor = ({ config }: SiteFiles): string[] => [
  ...(existsSync("/etc/postgresql") ? ["/etc/postgresql"] : []),
  dirname(config) === "/etc/jbackup" ? "/etc/jbackup" : config,
];

async function chooseFiles({ context, options, ask }: Scene): Promise<SiteFiles> {
  const { environment, configFile } = context;
  const whole = (path: string): string =>
    isAbsolute(path) ? path : join(environment.workingDirectory, path);
  const said =
    textFlag(options, "out") ?? configFile ?? (environment.variable("JBACKUP_CONFIG") || undefined);
  const here = whole("jbackup.yaml");
  const config =
    said !== undefined || ask === null || !environment.isRoot
      ? whole(said ?? here)
      : await ask.select("Where should the configuration be?", [
          { name: "/etc/jbackup/jbackup.yaml, for the whole host", value: "/etc/jbackup/jbackup.yaml" },
          { name: `${here}, for commands in this folder`, value: here },
        ]);
  const kit = whole(textFlag(options, "kit") ?? join(dirname(config), "jbackup-recovery-kit.txt"));
  return { config, kit };
}

const SITE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;

async function chooseSite({ options, ask }: Scene, database: string): Promise<string> {
  const problem = (text: string): string | null =>
    SITE.test(text)
      ? null
      : "letters, digits, dots, dashes and underscores, beginning with a letter or digit";
  const said = textFlag(options, "site");
  if (said !== undefined) {
    if (problem(said) === null) return said;
    throw new JBackupError("usage", `--site cannot be "${said}"`, { hint: `use ${problem(said)}` });
  }
  const cleaned = database.replaceAll(/[^A-Za-z0-9._-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  const initial = cleaned === "" ? "site" : cleaned.slice(0, 60);
  return ask === null
    ? initial
    : ask.text("Name of this site, as backups will bear it", { initial, problem });
}

async function chooseKeep({ options, ask }: Scene): Promise<Keep> {
  const said = choiceFlag<Keep>(options, "keep", Object.keys(KEEPS) as Keep[]);
  if (said !== undefined || ask === null) return said ?? "months";
  const { months, ...others } = KEEPS;
  return ask.select(
    "How long are backups kept?",
    Object.entries({ months, ...others }).map(([value, name]) => ({ name, value: value as Keep })),
  );
}

async function chooseHour({ options, ask }: Scene): Promise<number> {
  const said = countFlag(options, "hour", 0, 23);
  if (said !== undefined || ask === null) return said ?? 2;
  const text = await ask.text("At which hour (0 to 23, UTC) is the night quiet?", {
    initial: "2",
    problem: (given) => (/^\s*([01]?\d|2[0-3])\s*$/.test(given) ? null : "a whole number from 0 to 23"),
  });
  return Number(text);
}

async function chooseBackup({ options, ask }: Scene): Promise<boolean> {
  if (isSet(options, "skipBackup")) return false;
  return ask === null ? true : ask.yes("Make the first backup as soon as it is set up?", true);
}

async function confirm(scene: Scene, draft: SiteDraft, files: SiteFiles, hasBackup: boolean): Promise<void> {
  const { ask, context } = scene;
  if (ask === null) return;
  const { report } = context.output;
  report.info("To be written:");
  report.info(`  ${files.config}, readable by this user only`);
  report.info("  a key pair for every day, a second one for emergencies, and a signing key");
  report.info(`  ${files.kit}: print it, lock it away, delete it`);
  if (hasBackup) report.info(`Then: the first backup, into ${names(draft)}`);
  report.info("The same without questions:");
  report.info(`  ${equivalent(draft, files, hasBackup)}`);
  await requireYes(ask);
}

const names = ({ storages }: SiteDraft): string => storages.map(({ name }) => name).join(", ");

async function requireYes(ask: Ask): Promise<void> {
  if (await ask.yes("Go?", true)) return;
  throw new JBackupError("needs_confirmation", "not set up; nothing was changed");
}

/** Secrets come from variables: they are not repeated. */
function equivalent(
  { url, storages, tenants, ...draft }: SiteDraft,
  files: SiteFiles,
  hasBackup: boolean,
): string {
  const { channel } = draft;
  const variables = [
    ...storages.flatMap(({ name, kind }) => (kind === "local" ? [] : credentialVariables(name, kind))),
    ...(channel === null ? [] : [channelVariable(channel)]),
  ].map((variable) => `${variable}=...`);
  const options: Options = {
    yes: true,
    out: files.config,
    databaseUrl: url.reveal(),
    site: draft.site,
    storage: storages.map(storageSpec),
    tenants: tenants?.table ?? "none",
    ...(tenants === null
      ? {}
      : { shared: tenants.shared, exclude: tenants.exclude, transient: tenants.transient }),
    keep: draft.keep,
    hour: String(draft.hour),
    ...(channel === null ? {} : { alerts: channelSpec(channel) }),
    skipBackup: !hasBackup,
  };
  return [...variables, commandLine("init", [], options)].join(" ");
}
