import { JBackupError } from "../../domain/errors.js";
import { nearest } from "../../domain/similar.js";
import type { TenantDraft } from "../../domain/siteDraft.js";
import type { LookedAt } from "../../engine/setUp.js";
import { listFlag, textFlag } from "../flags.js";
import { countedText } from "../text.js";
import type { Ask } from "./ask.js";
import type { Scene } from "./scene.js";

/** Whose rows are whose, as the schema tells it and somebody confirms. Null: there are no tenants. */
export async function chooseTenants(scene: Scene, looked: LookedAt): Promise<TenantDraft | null> {
  const { options, ask } = scene;
  const named = textFlag(options, "tenants");
  if (named === "none") return null;
  const found = named === undefined ? looked.proposed : await looked.propose(named);
  const isSaid = ask === null || named !== undefined;
  const chosen = isSaid ? found : await confirmed(scene, ask, looked, found);
  if (chosen === null) return null;
  const draft: TenantDraft = {
    ...chosen,
    shared: listFlag(options, "shared"),
    exclude: listFlag(options, "exclude"),
    transient: listFlag(options, "transient"),
  };
  requireTables(looked, draft);
  describe(scene, looked, draft);
  if (ask !== null) await decideTables(scene, ask, looked, draft);
  const { rows } = looked.server.lacks;
  if (rows.length > 0)
    scene.context.output.report.warn(
      `role ${looked.server.user} does not see every tenant's rows, so it cannot back them up by themselves. As a superuser: ${rows.join("; ")};`,
    );
  const left = looked.classify(draft).undecided;
  if (left.length > 0)
    scene.context.output.report.warn(
      `whose rows ${left.length === 1 ? "a table holds" : "some tables hold"} is not decided yet: ${left.map(({ table }) => table).join(", ")}. Tenants cannot be backed up by themselves until jbackup.yaml says so: jbackup tenants coverage`,
    );
  return draft;
}

/** The names that people write in full are those that `tables` shows; a mistyped one would decide nothing. */
function requireTables({ tables }: LookedAt, draft: TenantDraft): void {
  for (const flag of ["shared", "exclude", "transient"] as const)
    for (const name of draft[flag]) {
      if (tables.some((table) => table === name || table.endsWith(`.${name}`))) continue;
      const meant = nearest(name, tables);
      throw new JBackupError("usage", `--${flag} names ${name}, and there is no such table`, {
        hint: meant === undefined ? `the tables are ${tables.join(", ")}` : `perhaps ${meant} is meant`,
      });
    }
}

const described = ({ table, column, setting, activeWhere }: TenantDraft): string =>
  [
    `tenants are the rows of ${table}`,
    `other tables name them in ${column}`,
    ...(setting === null ? [] : [`policies read ${setting}`]),
    ...(activeWhere === null ? [] : [`active where ${activeWhere}`]),
  ].join("; ");

function describe({ context }: Scene, looked: LookedAt, draft: TenantDraft): void {
  const { owned, shared } = looked.classify(draft);
  const all = looked.tables.length;
  context.output.report.info(
    `${described(draft).replace(/^t/, "T")}. Of ${countedText(all, "table")} ${owned} are theirs, ${shared} are shared by all.`,
  );
}

async function confirmed(
  scene: Scene,
  ask: Ask,
  looked: LookedAt,
  found: TenantDraft | null,
): Promise<TenantDraft | null> {
  if (looked.tables.length === 0) return null;
  if (found !== null) {
    scene.context.output.report.info(`It looks as if ${described(found)}.`);
    if (await ask.yes("Is that so?", true)) return found;
  } else if (!(await ask.yes("Do several customers share the tables of this database?", false))) return null;
  const none = "no table: there are no tenants";
  const table = await ask.search("The table with a row for each tenant (type to search)", [
    ...looked.tables.map((name) => ({ name, value: name })),
    { name: none, value: none },
  ]);
  return table === none ? null : looked.propose(table);
}

type Decision = "shared" | "exclude" | "transient" | "later";

const DECISIONS: { name: string; value: Decision }[] = [
  { name: "shared: all tenants use it; it is not restored with one of them", value: "shared" },
  { name: "not a tenant's: logs, metrics, bookkeeping", value: "exclude" },
  { name: "transient: queues, sessions, tokens that a restore must not revive", value: "transient" },
  { name: "decide later", value: "later" },
];

/** What the schema leaves open, one table after the other; a decision may settle several. */
async function decideTables(scene: Scene, ask: Ask, looked: LookedAt, draft: TenantDraft): Promise<void> {
  const later = new Set<string>();
  for (;;) {
    const open = looked.classify(draft).undecided.find(({ table }) => !later.has(table));
    if (open === undefined) return;
    scene.context.output.report.info(`${open.table}: ${open.why}`);
    const decision = await ask.select(`What is ${open.table} to tenants?`, DECISIONS);
    if (decision === "later") later.add(open.table);
    else draft[decision].push(open.table);
  }
}
