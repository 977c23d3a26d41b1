import { addressProblem } from "../../domain/address.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { Secret } from "../../domain/secret.js";
import type { LookedAt } from "../../engine/setUp.js";
import type { LocalServer } from "../../postgres/postgres.js";
import { textFlag } from "../flags.js";
import { bytesText } from "../text.js";
import type { Ask, Choice } from "./ask.js";
import type { Scene } from "./scene.js";

export interface ChosenServer {
  url: Secret;
  looked: LookedAt;
}

const usage = (message: string, hint: string): JBackupError => new JBackupError("usage", message, { hint });
const GIVE_URL =
  "give --database-url postgresql:///DATABASE?host=/SOCKET/FOLDER or postgresql://USER@HOST:PORT/DATABASE, such as postgresql:///shop?host=/var/run/postgresql";

/** Finds the database to protect and looks at it, again and again until all is well or somebody says to go on. */
export async function chooseServer(scene: Scene): Promise<ChosenServer> {
  const { options, ask } = scene;
  const given = textFlag(options, "databaseUrl");
  const problem = given === undefined ? null : addressProblem(given);
  if (problem !== null) throw usage(`--database-url is no address of a database: ${problem}`, GIVE_URL);
  let url = given === undefined ? null : new Secret(given);
  for (;;) {
    try {
      url ??= await chooseDatabase(scene);
      const looked = await scene.setUp.lookAt(url);
      if (await isAccepted(scene, looked)) return { url, looked };
      await looked.close();
    } catch (error) {
      if (ask === null || !isJBackupError(error) || error.code === "interrupted") throw error;
      tell(scene, error);
    }
    if (ask === null) throw new JBackupError("bug", "nobody is there to try again");
    const again = await ask.select("PostgreSQL", [
      ...(url === null ? [] : [{ name: "look again", value: "again" as const }]),
      { name: "choose another server, role or database", value: "other" as const },
    ]);
    if (again === "other") url = null;
  }
}

function tell({ context }: Scene, error: JBackupError): void {
  context.output.report.warn(error.message);
  if (error.hint !== undefined) context.output.report.info(`Try: ${error.hint}`);
}

async function chooseDatabase(scene: Scene): Promise<Secret> {
  const server = await chooseLocalServer(scene);
  if (server === null) return new Secret(await askUrl(scene.ask as Ask));
  const { looked, user } = await openedAs(scene, server);
  try {
    const { databases, database } = looked.server;
    const ours = databases.filter(({ name }) => name !== "postgres");
    const name = await chooseName(scene, ours.length === 0 ? [{ name: database, bytes: 0 }] : ours);
    return new Secret(urlOf(server, user, name));
  } finally {
    await looked.close();
  }
}

async function chooseLocalServer({ setUp, ask }: Scene): Promise<LocalServer | null> {
  const servers = await setUp.localServers();
  const named = (server: LocalServer): string => `socket in ${server.socketDirectory}, port ${server.port}`;
  if (ask !== null)
    return ask.select<LocalServer | null>("Which PostgreSQL?", [
      ...servers.map((server): Choice<LocalServer | null> => ({ name: named(server), value: server })),
      { name: "another one, by its address", value: null },
    ]);
  const [only, second] = servers;
  if (only === undefined) throw usage("no PostgreSQL listens on a socket of this host", GIVE_URL);
  if (second !== undefined)
    throw usage(`several PostgreSQL servers are here: ${servers.map(named).join("; ")}`, GIVE_URL);
  return only;
}

const askUrl = (ask: Ask): Promise<string> =>
  ask.text("Its address", {
    initial: "postgresql://USER@HOST:5432/DATABASE",
    problem: (text) => {
      if (/\b(USER|HOST|DATABASE)\b/.test(text)) return "put your own user, host and database in";
      return addressProblem(text);
    },
  });

function urlOf({ socketDirectory, port }: LocalServer, user: string | null, database: string): string {
  const who = user === null ? "" : `${encodeURIComponent(user)}@`;
  const where = encodeURI(socketDirectory).replaceAll("&", "%26");
  return `postgresql://${who}/${encodeURIComponent(database)}?host=${where}${port === 5432 ? "" : `&port=${port}`}`;
}

/** As the user of this process, as most servers know him; else as the role that every server has. */
async function openedAs(
  scene: Scene,
  server: LocalServer,
): Promise<{ looked: LookedAt; user: string | null }> {
  const { systemUser: self } = scene.context.environment;
  let refusal: unknown;
  for (const user of self === "postgres" ? [null] : [null, "postgres"]) {
    try {
      return { looked: await scene.setUp.lookAt(new Secret(urlOf(server, user, "postgres"))), user };
    } catch (error) {
      if (!isJBackupError(error, "postgres_denied")) throw error;
      refusal ??= error;
    }
  }
  const { ask } = scene;
  if (ask === null || !isJBackupError(refusal)) throw withRoleHint(refusal, self);
  tell(scene, withRoleHint(refusal, self));
  const user = await ask.text("Role to connect as", {
    initial: self,
    problem: (text) => (text.trim() === "" ? "it cannot be empty" : null),
  });
  return { looked: await scene.setUp.lookAt(new Secret(urlOf(server, user, "postgres"))), user };
}

const withRoleHint = (error: unknown, user: string): JBackupError => {
  if (!isJBackupError(error)) throw error;
  return new JBackupError(error.code, error.message, {
    cause: error,
    hint: `make a role of that name: sudo -u postgres createuser --superuser ${user}; or name another one with --database-url`,
  });
};

async function chooseName({ ask }: Scene, databases: { name: string; bytes: number }[]): Promise<string> {
  const [only, second] = databases;
  if (only !== undefined && second === undefined) return only.name;
  if (ask === null)
    throw usage(
      `several databases are there: ${databases.map(({ name }) => name).join(", ")}`,
      `say which one the tenants are in (the whole cluster is backed up anyway): ${GIVE_URL}`,
    );
  return ask.select(
    "Which database? (the whole cluster is backed up; this one is restored by default)",
    databases.map(({ name, bytes }) => ({ name: `${name}  ${bytesText(bytes)}`, value: name })),
  );
}

/** Shows what was found; false when it is to be looked at once more. */
async function isAccepted(scene: Scene, { server }: LookedAt): Promise<boolean> {
  const { report } = scene.context.output;
  report.info(
    [
      `PostgreSQL ${server.version}`,
      `database ${server.database}`,
      `${bytesText(server.clusterBytes)} in all`,
      `role ${server.user}${server.isSuperuser ? " (superuser)" : ""}`,
      ...(server.inRecovery ? ["a standby"] : []),
    ].join(", "),
  );
  if (server.major < 13)
    throw new JBackupError("version_mismatch", `PostgreSQL ${server.version} is too old`, {
      hint: "jbackup backs up PostgreSQL 13 and newer",
    });
  if (server.walLevel === "minimal")
    report.warn("wal_level is minimal, so no moment between backups can be reached: set wal_level = replica");
  if (!server.hasChecksums)
    report.info(
      "Page checksums are off: damage on the disk is noticed late. pg_checksums --enable turns them on.",
    );
  const { physical } = server.lacks;
  if (physical.length === 0) return true;
  const missing = `role ${server.user} may not back up the cluster`;
  const statements = `${physical.join("; ")};`;
  if (scene.ask === null)
    throw new JBackupError("postgres_denied", missing, {
      hint: `run in database ${server.database} as a superuser: ${statements}`,
    });
  report.warn(`${missing}. As a superuser, in database ${server.database}:`);
  report.info(`  ${statements}`);
  return scene.ask.yes("Go on all the same? (No: look again)", false);
}
