import { plainName, type Session } from "./connection.js";

/** pg_dumpall quotes a name only where it must. */
const NAME = String.raw`("(?:[^"]|"")*"|[^\s";]+)`;
const OF_ROLE = new RegExp(`^(?:CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ${NAME}`);
const MEMBERSHIP = new RegExp(`^GRANT ${NAME} TO ${NAME}`);
const SHARED_GRANT = new RegExp(`^GRANT [A-Z, ]+ ON (?:TABLESPACE ${NAME}|PARAMETER [^ ]+) TO ${NAME}`);

/** A script of pg_dumpall, statement by statement: comments and settings in it may hold line ends and semicolons. */
const statementsOf = (script: string): string[] =>
  script.match(/^(?!--|\\)[^\s'"](?:[^'";]|'[^']*'|"[^"]*")*;/gm) ?? [];

/** Creates the roles of the backup that this server lacks; existing ones are left as they are. */
export async function createMissingRoles(
  admin: Session,
  roles: string[],
  globals: string,
): Promise<string[]> {
  const present = new Set(
    (await admin.rows<{ name: string }>("select rolname as name from pg_roles")).map(({ name }) => name),
  );
  const missing = roles.filter((name) => !present.has(name));
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
