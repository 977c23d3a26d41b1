import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Catalog } from "./catalog/catalog.js";
import type { JobQueue } from "./catalog/catalogs.js";
import { Redactor } from "./cli/redact.js";
import { type Config, drillUrl, type Environment, loadConfig, urlOn } from "./config/config.js";
import type { ChannelConfig, StorageConfig } from "./domain/config.js";
import { JBackupError } from "./domain/errors.js";
import { Secret } from "./domain/secret.js";
import { type ChannelDraft, channelName, type StorageDraft } from "./domain/siteDraft.js";
import type { DemoResult, Proof } from "./engine/demo/demo.js";
import type { SetUp } from "./engine/setUp.js";
import type { OpenedStorage, Reporter, Site } from "./engine/site.js";
import type { Postgres } from "./postgres/postgres.js";
import { ownProgram, runAgain, runShell, startAside } from "./sys/aside.js";
import { systemClock } from "./sys/clock.js";
import { uuid7 } from "./sys/ids.js";

export interface SiteRequest {
  configFile: string | undefined;
  environment: Environment;
  report: Reporter;
  signal: AbortSignal;
  onSecret(text: string): void;
  version: string;
}

/** How long one storage operation is tried again before the storage counts as away. */
const RETRY = { budgetMs: 15_000, firstPauseMs: 250, longestPauseMs: 8_000 };

const RUNBOOKS = fileURLToPath(new URL("../runbooks", import.meta.url));
const RECOVER_SCRIPT = fileURLToPath(new URL("../bin/recover.mjs", import.meta.url));

/** Puts real parts behind every port. Each is loaded and opened when it is first used. */
export async function openSite(request: SiteRequest): Promise<Site> {
  const { environment, report, signal, version } = request;
  const redactor = new Redactor();
  const onSecret = (text: string): void => {
    redactor.add(text);
    request.onSecret(text);
  };
  const config = await loadConfig({ environment, file: request.configFile, onSecret });
  for (const warning of config.warnings) report.warn(warning);
  const [format, storages, { withJournal, openCatalog, openJobQueue, locationOf }, { requireOwnHome }] =
    await Promise.all([
      import("./format/format.js"),
      import("./storage/storages.js"),
      import("./catalog/catalogs.js"),
      import("./engine/home.js"),
    ]);
  await requireOwnHome(config);
  const catalogUrl = await config.catalogUrl();
  let opened: Promise<OpenedStorage[]> | undefined;
  let deleting: Promise<OpenedStorage[]> | undefined;
  let server: Promise<Postgres> | undefined;
  let queue: Promise<JobQueue | null> | undefined;
  let closed: Promise<void> | undefined;
  const catalog: Catalog = withJournal(
    () => openCatalog(catalogUrl.reveal(), { clock: systemClock }),
    join(config.home, "journal"),
    {
      clock: systemClock,
      location: await locationOf(catalogUrl.reveal()),
      onTrouble: (error) => report.warn(`${error.message}; records go to the journal and are written later`),
    },
  );

  return {
    config,
    environment,
    version,
    clock: systemClock,
    report,
    signal,
    catalog,
    format,
    storage: storages,
    onSecret,
    redact: (value) => redactor.cleanValue(value) as typeof value,
    recoverScript: RECOVER_SCRIPT,
    newId: () => uuid7(systemClock),
    storages: () => {
      opened ??= openAll(config.storages, environment, storages.openStorage);
      return opened;
    },
    deletingStorages: async () => {
      deleting ??= openDeleting(config, environment, storages.openStorage);
      const own = await deleting;
      opened ??= openAll(config.storages, environment, storages.openStorage);
      return (await opened).map((entry) => own.find(({ name }) => name === entry.name) ?? entry);
    },
    postgres: () => {
      server ??= openServer(config, environment, signal, onSecret);
      return server;
    },
    queue: () => {
      queue ??= openJobQueue(catalogUrl.reveal(), config.site).catch((error: unknown) => {
        queue = undefined;
        throw error;
      });
      return queue;
    },
    reopen: () => openSite(request),
    clusters: () => import("./postgres/postgres.js"),
    openChannel: async (channel) => (await import("./alerts/alerts.js")).openChannel(channel),
    ping: async (url, limit) => (await import("./alerts/alerts.js")).ping(url, limit),
    program: ownProgram(),
    everyFewSeconds: async (work) => {
      const { schedule } = await import("node-cron");
      const task = schedule("*/2 * * * * *", work, {
        timezone: "UTC",
        noOverlap: true,
        suppressMissedWarning: true,
      });
      return async () => task.destroy();
    },
    aside: startAside,
    again: runAgain,
    shell: runShell,
    runbookFiles: async () =>
      (await import("./config/runbooks.js")).findRunbooks([RUNBOOKS, ...config.runbooks]),
    parseRunbook: async (file) => (await import("./config/runbooks.js")).parseRunbook(file),
    drillUrl: async (folder) => new Secret(drillUrl((await config.database.url()).reveal(), folder)),
    urlOn: async (place) => new Secret(urlOn((await config.database.url()).reveal(), place)),
    step: stopAt(environment),
    close: () => {
      closed ??= closeAll();
      return closed;
    },
  };

  async function closeAll(): Promise<void> {
    await catalog.close();
    await (await queue?.catch(() => null))?.close();
    for (const some of [opened, deleting])
      for (const entry of (await some?.catch(() => [])) ?? []) await entry.storage?.close();
  }
}

const stopAt =
  ({ stopAt: wanted }: Environment) =>
  (name: string): void => {
    if (wanted === name) process.kill(process.pid, "SIGSTOP");
  };

const openDeleting = (
  { storages }: Config,
  environment: Environment,
  open: typeof import("./storage/storages.js").openStorage,
): Promise<OpenedStorage[]> =>
  openAll(
    storages.flatMap((storage): StorageConfig[] => {
      if (storage.kind === "s3" && storage.cleanup) return [{ ...storage, ...storage.cleanup }];
      if (storage.kind === "b2" && storage.cleanup) return [{ ...storage, ...storage.cleanup }];
      return [];
    }),
    environment,
    open,
  );

async function openAll(
  wanted: StorageConfig[],
  { storageIdleMs }: Environment,
  open: typeof import("./storage/storages.js").openStorage,
): Promise<OpenedStorage[]> {
  const options = {
    clock: systemClock,
    retry: RETRY,
    ...(storageIdleMs === undefined ? {} : { idleMs: storageIdleMs }),
  };
  return Promise.all(
    wanted.map(async (storage): Promise<OpenedStorage> => {
      const { name, kind } = storage;
      try {
        return { name, kind, storage: await open(storage, options) };
      } catch (error) {
        // a secret that cannot be had, or a service that cannot be reached: the others must not suffer
        if (error instanceof JBackupError) return { name, kind, storage: null, error };
        throw error;
      }
    }),
  );
}

async function openServer(
  config: Config,
  environment: Environment,
  signal: AbortSignal,
  onSecret: (text: string) => void,
): Promise<Postgres> {
  const { openPostgres, passwordIn } = await import("./postgres/postgres.js");
  const url = await config.database.url();
  const password = passwordIn(url);
  if (password !== null) onSecret(password);
  return openPostgres({
    url,
    user: environment.systemUser,
    binDirectory: config.database.binDirectory,
    dataDirectory: config.database.dataDirectory,
    nowMs: () => systemClock.now().getTime(),
    environment: { path: environment.path, home: environment.home },
    signal,
  });
}

export async function createKeys(request: {
  directory: string;
}): Promise<{ directory: string; recipient: string; signer: string }> {
  const [format, { createKeys: create }] = await Promise.all([
    import("./format/format.js"),
    import("./engine/siteKeys.js"),
  ]);
  return create(format, request.directory);
}

export async function migrateCatalog(request: {
  configFile: string | undefined;
  environment: Environment;
  onSecret(text: string): void;
}): Promise<{ catalog: string; migrations: string[] }> {
  const { environment, onSecret } = request;
  const config = await loadConfig({ environment, file: request.configFile, onSecret });
  const [{ openCatalog }, { requireOwnHome }] = await Promise.all([
    import("./catalog/catalogs.js"),
    import("./engine/home.js"),
  ]);
  await requireOwnHome(config);
  const catalog = await openCatalog((await config.catalogUrl()).reveal(), {
    clock: systemClock,
    migrate: false,
  });
  try {
    return { catalog: catalog.location, migrations: await catalog.migrate() };
  } finally {
    await catalog.close();
  }
}

/** What setting up a site works with, before there is a configuration. */
export async function openSetUp(wish: {
  environment: Environment;
  signal: AbortSignal;
  onSecret(text: string): void;
}): Promise<SetUp> {
  const [format, storage, postgres, setUp] = await Promise.all([
    import("./format/format.js"),
    import("./storage/storages.js"),
    import("./postgres/postgres.js"),
    import("./engine/setUp.js"),
  ]);
  return setUp.openSetUp({
    ...wish,
    clock: systemClock,
    format,
    storage,
    postgres,
    recoverScript: RECOVER_SCRIPT,
    step: stopAt(wish.environment),
    openStorage: (draft) =>
      storage.openStorage(configOfDraft(draft), { clock: systemClock, retry: { ...RETRY, budgetMs: 4_000 } }),
    openChannel: async (draft) => (await import("./alerts/alerts.js")).openChannel(configOfChannel(draft)),
  });
}

function configOfChannel(draft: ChannelDraft): ChannelConfig {
  const base = { name: channelName(draft), atLeast: "warning" as const };
  const url = async (): Promise<Secret> => draft.url;
  return draft.kind === "email"
    ? { ...base, kind: "email", smtpUrl: url, from: null, to: draft.to }
    : { ...base, kind: "webhook", url, secret: null, format: draft.format };
}

function configOfDraft(draft: StorageDraft): StorageConfig {
  if (draft.kind === "local") return draft;
  const { credentials, ...rest } = draft;
  const [id, secret] = [async () => credentials.id, async () => credentials.secret];
  return rest.kind === "s3"
    ? { ...rest, accessKeyId: id, secretAccessKey: secret }
    : { ...rest, keyId: id, applicationKey: secret };
}

export interface DemoWish extends Omit<SiteRequest, "configFile"> {
  say(line: string): void;
  show(proof: Proof): void;
}

export async function runDemo(wish: DemoWish): Promise<DemoResult> {
  const { environment } = wish;
  const [{ startThrowawayCluster }, demo] = await Promise.all([
    import("./postgres/postgres.js"),
    import("./engine/demo/demo.js"),
  ]);
  return demo.runDemo({
    clock: systemClock,
    temporaryDirectory: environment.temporaryDirectory,
    signal: wish.signal,
    say: wish.say,
    show: wish.show,
    startCluster: () =>
      startThrowawayCluster(environment.temporaryDirectory, {
        path: environment.path,
        home: environment.home,
      }),
    openSite: (configFile, home) =>
      openSite({
        ...wish,
        configFile,
        environment: { ...environment, jbackupHome: home, stopAt: undefined },
      }),
  });
}
