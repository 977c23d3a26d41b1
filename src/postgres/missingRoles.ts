import { JBackupError } from "../domain/errors.js";
import { plainName, type Session } from "./connection.js";

/** pg_dumpall quotes a name only where it must. */
const NAME = String.raw`("(?:[^"]|"")*"|[^\s";]+)`;
const OF_ROLE = new RegExp(`^(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ${NAME}`);
const MEMBERSHIP = new RegExp(`^GRANT ${NAME} TO ${NAME}`);
const SHARED_GRANT = new RegExp(`^GRANT [A-Z, ]+ ON (?:TABLESPACE ${NAME}|PARAMETER [^ ]+) TO ${NAME}`);

/** A script of pg_dumpall, statement by statement: comments and settings in it may hold line ends and semicolons. */
const statementsOf = (script: string): string[] =>
  script.match(/^(?!--|\\)[^\s'"](?:[^'";]|'[^']*'|"[^"]*")*;/gm) ?? [];

async function missingRoles(admin: Session, roles: string[]): Promise<string[]> {
  const present = new Set(
    (await admin.rows<{ name: string }>("select rolname as name from pg_roles")).map(({ name }) => name),
  );
  return roles.filter((name) => !present.has(name));
}

/** Asked before anything is touched: what is missing must be ours to create. */
export async function requireRoles(admin: Session, roles: string[]): Promise<void> {
  const missing = await missingRoles(admin, roles);
  if (missing.length === 0) return;
  const [own] = await admin.rows<{ may: string }>(
    "select (rolsuper or rolcreaterole)::text as may from pg_roles where rolname = current_user",
  );
  if (own?.may === "true") return;
  throw new JBackupError(
    "postgres_denied",
    `the server lacks the roles ${missing.join(", ")}, and user "${admin.address.user}" may not create any`,
    { hint: "create them first, or name a role with CREATEROLE in database.url" },
  );
}

/** Creates the roles of the backup that this server lacks; existing ones are left as they are. */
export async function createMissingRoles(
  admin: Session,
  roles: string[],
  globals: string,
): Promise<string[]> {
  const missing = await missingRoles(admin, roles);
  if (missing.length === 0) return [];
  const isMissing = (written: string | undefined): boolean => missing.includes(plainName(written ?? ""));
  const spaces = (await admin.rows<{ name: string }>("select spcname as name from pg_tablespace")).map(
    ({ name }) => name,
  );
  const statements = statementsOf(globals).flatMap((statement) => {
    if (isMissing(OF_ROLE.exec(statement)?.[1])) return [statement];
    const [, space, grantee] = SHARED_GRANT.exec(statement) ?? [];
    if (isMissing(grantee))
      return space === undefined || spaces.includes(plainName(space)) ? [statement] : [];
    const [, group, member] = MEMBERSHIP.exec(statement) ?? [];
    // a grantor may not exist here
    return isMissing(group) || isMissing(member) ? [statement.replace(/ GRANTED BY [^;]*;$/, ";")] : [];
  });
  await admin.run(`begin; ${statements.join("\n")} commit`);
  return missing;
}
