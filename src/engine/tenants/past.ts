import { availableParallelism } from "node:os";
import { JBackupError } from "../../domain/errors.js";
import { parseTarget, type RecoveryTarget } from "../../domain/recoveryTarget.js";
import type { DumpFacts, Postgres, TableRows } from "../../postgres/postgres.js";
import { openHiddenFile } from "../../sys/hiddenFile.js";
import { DUMP_NAME } from "../backup/dumpFacts.js";
import { chooseBase, isPhysical } from "../bases.js";
import { openChain } from "../files/chain.js";
import { type FoundBackup, findBackup } from "../findBackup.js";
import { openBackup } from "../openBackup.js";
import { newerTexts } from "../passedOver.js";
import { momentText, planWal } from "../recovery/planWal.js";
import { binDirectoryFor } from "../recovery/serverFor.js";
import { globalsOf } from "../restore/fromDump.js";
import { dropSide, restoringSite } from "../restore/load.js";
import { requireEqual } from "../restore/outcome.js";
import { requireSpace, temporaryDirectory } from "../restore/space.js";
import { withScratchCluster } from "../scratch.js";
import type { Site } from "../site.js";
import type { OriginWish } from "./origins.js";

/** The database as it was, to be read from; nobody else reaches it. */
export interface Past {
  postgres: Postgres;
  backup: FoundBackup;
  /** For people: which moment it is. */
  moment: string;
  /** What it took to get there. */
  broughtUpMs: number;
}

export interface Prepared {
  backup: FoundBackup;
  moment: string;
  /** Of the WAL that leads there; null without any. */
  timeline: number | null;
  warnings: string[];
  /** Whether the same words will mean the same rows tomorrow. */
  isFixed: boolean;
  /** Brings the past up, lets the work read from it, and takes it away again. */
  visit<Result>(work: (past: Past) => Promise<Result>): Promise<Result>;
}

/**
 * A full backup at its end, or the database at a moment after one. Whatever can be refused is refused here, before
 * anything is fetched.
 */
export async function preparePast(
  site: Site,
  { reference, to, timeline }: Pick<OriginWish, "reference" | "to" | "timeline">,
): Promise<Prepared> {
  const target = to === null ? null : parseTarget(to, timeline);
  const found =
    target === null ? await findBackup(site, reference) : await chooseBase(site, reference, target);
  const { body } = found.manifest;
  if (body.kind !== "full")
    throw new JBackupError("usage", `${body.label} is no full backup`, {
      hint: "choose one with jbackup list --kind full",
    });
  return isPhysical(body) ? fromFiles(site, found, target) : fromDump(site, found);
}

/** A scratch server that stands still at the moment: nothing is ever written there, no timeline begins. */
async function fromFiles(site: Site, found: FoundBackup, target: RecoveryTarget | null): Promise<Prepared> {
  const chain = await openChain(site, found);
  const wal = target === null ? null : await planWal(site, chain.facts, target);
  const recovery = target === null || wal === null ? null : { target, wal, ending: "paused" as const };
  const binDirectory = await binDirectoryFor(site, chain.facts);
  const moment = target === null ? `the end of ${found.manifest.body.label}` : momentText(target, wal);
  const { database } = await site.postgres();
  return {
    backup: found,
    moment,
    timeline: wal?.timeline ?? null,
    warnings: [...newerTexts(found), ...(wal?.warnings ?? [])],
    isFixed: target?.kind !== "latest",
    visit: async (work) => {
      const startedAt = site.clock.monotonicMs();
      return withScratchCluster(site, { chain, binDirectory, recovery }, async (scratch) => {
        const postgres = await scratch.open(database);
        return work({ postgres, backup: found, moment, broughtUpMs: site.clock.monotonicMs() - startedAt });
      });
    },
  };
}

/** A dump is loaded beside the live database, where only its owner gets in, and dropped again. */
async function fromDump(site: Site, found: FoundBackup): Promise<Prepared> {
  const backup = await openBackup(site, found);
  const facts = backup.contents.detail.logical as DumpFacts;
  const { label } = found.manifest.body;
  return {
    backup: found,
    moment: `the snapshot of ${label}`,
    timeline: null,
    warnings: newerTexts(found),
    isFixed: true,
    visit: async (work) => {
      const startedAt = site.clock.monotonicMs();
      const postgres = await site.postgres();
      const admin = await postgres.admin();
      const steps = postgres.restoring;
      const archive = await openHiddenFile(temporaryDirectory(site));
      const side = `past_jbackup_${site.newId().slice(-8)}`;
      try {
        const entry = backup.entry(DUMP_NAME);
        await requireSpace(site, admin, entry.bytes, facts.database.bytes);
        const lost = await steps.checkTarget(admin, facts);
        await steps.createMissingRoles(admin, facts.roles, await globalsOf(backup));
        await archive.write(backup.read(entry));
        for (const name of await steps.sweep(admin, restoringSite(site)))
          site.report.info(`dropped ${name}, left half-restored by a run that was killed`);
        await steps.createSide(admin, side, facts.database, restoringSite(site));
        site.step("past-created");
        await steps.load(
          {
            file: archive.path,
            database: side,
            jobs: Math.max(4, availableParallelism()),
            directory: temporaryDirectory(site),
            how: "beside",
          },
          facts,
          lost.length > 0,
        );
        requireEqual(backup.contents.detail.tables as TableRows[], await steps.count(side), label);
        site.step("past-loaded");
        const beside: Postgres = {
          ...postgres,
          database: side,
          connect: (name) => postgres.connect(name ?? side),
        };
        return await work({
          postgres: beside,
          backup: found,
          moment: `the snapshot of ${label}`,
          broughtUpMs: site.clock.monotonicMs() - startedAt,
        });
      } finally {
        await archive.close();
        await dropSide(site, postgres, admin, side);
        await admin.close();
      }
    },
  };
}
