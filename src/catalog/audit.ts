import { createHash } from "node:crypto";
import type { Kysely, Transaction } from "kysely";
import type { AuditEntry } from "../domain/backup.js";
import { JBackupError } from "../domain/errors.js";
import type { AuditCheck } from "./catalog.js";
import { toRow } from "./rows.js";
import { auditLayout, type Tables } from "./tables.js";

type AuditRow = Tables["audit"];
type Unsealed = Omit<AuditRow, "hash">;

const FIRST_PREVIOUS = "0".repeat(64);
const ROWS_PER_READ = 1_000;

/** Call it with the audit locked: two appenders must not extend the same end of the chain. */
export async function appendToChain(db: Transaction<Tables>, entry: AuditEntry): Promise<void> {
  const row = toRow(auditLayout, entry);
  const known = await db.selectFrom("audit").selectAll().where("id", "=", row.id).executeTakeFirst();
  if (known !== undefined) return checkSame(known, row);
  const last = await db
    .selectFrom("audit")
    .select(["sequence", "hash"])
    .orderBy("sequence", "desc")
    .limit(1)
    .executeTakeFirst();
  const unsealed: Unsealed = {
    ...row,
    sequence: (last?.sequence ?? 0) + 1,
    previous_hash: last?.hash ?? FIRST_PREVIOUS,
  };
  await db
    .insertInto("audit")
    .values({ ...unsealed, hash: hashOf(unsealed) })
    .execute();
}

/** A journal may be replayed twice; what was once written is never changed. */
function checkSame(known: AuditRow, row: Omit<Unsealed, "sequence" | "previous_hash">): void {
  const { sequence, previous_hash } = known;
  if (hashOf({ ...row, sequence, previous_hash }) === known.hash) return;
  throw new JBackupError("conflict", `the audit has another entry with the id ${row.id}`, {
    hint: "Run `jbackup audit check`.",
  });
}

export async function checkChain(db: Kysely<Tables>): Promise<AuditCheck> {
  const check: AuditCheck = { entries: 0, brokenAt: null, head: null };
  let sequence = 0;
  let head = FIRST_PREVIOUS;
  for (;;) {
    const rows = await db
      .selectFrom("audit")
      .selectAll()
      .where("sequence", ">", sequence)
      .orderBy("sequence")
      .limit(ROWS_PER_READ)
      .execute();
    for (const row of rows) {
      const isNext = row.sequence === sequence + 1 && row.previous_hash === head && row.hash === hashOf(row);
      if (!isNext) check.brokenAt ??= row.id;
      sequence = row.sequence;
      head = check.head = row.hash;
    }
    check.entries += rows.length;
    if (rows.length < ROWS_PER_READ) return check;
  }
}

const NUMBERS_PER_READ = 500;

export async function hashesAt(db: Kysely<Tables>, numbers: readonly number[]): Promise<Map<number, string>> {
  const hashes = new Map<number, string>();
  for (let start = 0; start < numbers.length; start += NUMBERS_PER_READ) {
    const rows = await db
      .selectFrom("audit")
      .select(["sequence", "hash"])
      .where("sequence", "in", numbers.slice(start, start + NUMBERS_PER_READ))
      .execute();
    for (const { sequence, hash } of rows) hashes.set(sequence, hash);
  }
  return hashes;
}

/** Over a list, whose order is fixed; `detail` is taken as the text that is stored. */
const hashOf = (row: Unsealed): string =>
  createHash("sha256")
    .update(
      JSON.stringify([
        row.sequence,
        row.previous_hash,
        row.id,
        row.at,
        row.actor,
        row.action,
        row.subject,
        row.detail,
      ]),
    )
    .digest("hex");
