import { createHash } from "node:crypto";
import type { Backup } from "../../domain/backup.js";
import { JBackupError, reasonOf } from "../../domain/errors.js";
import type { ManifestBody, NeededBackup } from "../../domain/manifest.js";
import { recordOf } from "../../domain/record.js";
import { folderOf } from "../../domain/reference.js";
import type { TenantFacts } from "../../domain/tenantBackup.js";
import type { FrameCompressor, SealedObject } from "../../format/format.js";
import { Pile } from "../../sys/pile.js";
import { auditHead } from "../audit.js";
import { draftOf } from "../backup/record.js";
import { bodyOf, copiesOf, type Filled, storeArchive } from "../backup/storeArchive.js";
import { type ChainEnd, chainEnd, moveChain } from "../chain.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { type SealingKeys, trustedSigners } from "../siteKeys.js";
import type { UsableStorages } from "../useStorages.js";
import { type Earlier, fingerprintOf, requireNotShrunken, sameContent } from "./earlier.js";
import { type Lanes, openLanes } from "./lanes.js";
import { LOAD_SCRIPT, loadScript } from "./tenantFiles.js";

export interface TenantFailure {
  tenantId: string;
  error: string;
}

export interface StoreSettings {
  run: RunContext;
  note: string | null;
  keys: SealingKeys;
  storages: UsableStorages;
  earlier: Earlier;
  acceptShrunken: boolean;
  /** Where a tenant stands in the answer. */
  placeOf(tenantId: string): number;
  /** Of backups that tell of the past, or of a state that is about to be replaced: they never count as the last one. */
  parentId: string | null;
  server: ManifestBody["server"];
  timeline: number | null;
}

/** Files of a tenant in the order of its tables. */
export interface TenantContent {
  facts: TenantFacts;
  rows: Buffer[];
}

interface Stored {
  draft: Backup;
  body: ManifestBody;
  digest: string;
  folder: string;
}

const SAVED_AT_ONCE = 200;
/** The answer names them all. */
const TOLD_MOST = 20;

/** Takes tenants one after another, and keeps the account of what became of them. */
export class TenantStore {
  readonly backups = new Pile<Backup>();
  readonly failed: TenantFailure[] = [];
  readonly #site: Site;
  readonly #settings: StoreSettings;
  readonly #lanes: Lanes<Stored>;
  readonly #compressor: FrameCompressor;
  readonly #drafts = new Map<string, Backup>();
  #end: ChainEnd | undefined;
  #audit: ReturnType<typeof auditHead> | undefined;
  #unsaved: Backup[] = [];
  #saving: Promise<void> = Promise.resolve();
  #signers: string[] | undefined;

  constructor(site: Site, settings: StoreSettings) {
    this.#site = site;
    this.#settings = settings;
    this.#compressor = new site.format.FrameCompressor(site.config.compression);
    const usable = settings.storages.usable;
    this.#lanes = openLanes(site, usable, (stored, holding, error) => this.#settled(stored, holding, error));
  }

  /** From here on a run that is killed leaves records of what it was at. */
  async begin(tenantIds: string[]): Promise<void> {
    const { run, note } = this.#settings;
    const drafts = tenantIds.map((id) =>
      draftOf(this.#site, run, { kind: "tenant", method: "logical", note }, id),
    );
    for (const draft of drafts) this.#drafts.set(draft.tenantId ?? "", draft);
    await this.#site.catalog.saveBackups(drafts);
    await this.#settings.earlier.lookUp(tenantIds);
  }

  /** A small tenant: sealed as one object, or known to be stored already. */
  async add({ facts, rows }: TenantContent): Promise<void> {
    const draft = this.#draft(facts.id);
    await this.#orFailed(draft, async () => {
      const bytes = rows.reduce((sum, one) => sum + one.length, 0);
      const { filled, need } = await this.#judge(facts, bytes);
      const dataKey = this.#site.format.newDataKey();
      const context = { site: this.#site.config.site, backupId: draft.id, tenantId: facts.id };
      const bundle =
        need === null
          ? await this.#site.format.sealBundle(filesOf(facts, rows), filled.detail, {
              ...context,
              dataKey,
              compression: this.#site.config.compression,
              compressor: this.#compressor,
            })
          : null;
      await this.#sign(draft, filled, bundle?.object ?? null, bytes, dataKey);
    });
  }

  /** A tenant too large for memory: streamed into packs while it is read. What it comes to is known afterwards. */
  async addLarge(
    tenantId: string,
    expectedBytes: number,
    read: (
      addEntry: (name: string, input: AsyncIterable<Buffer>) => Promise<{ bytes: number; sha256: string }>,
    ) => Promise<TenantFacts>,
  ): Promise<void> {
    const draft = this.#draft(tenantId);
    await this.#orFailed(draft, async () => {
      await this.#keepChain();
      const { keys, storages } = this.#settings;
      const done = await storeArchive(this.#site, draft, keys, storages, {
        expectedBytes,
        fill: async (archive) => {
          const facts = await read((name, input) => archive.addEntry(name, input));
          await archive.addEntry(LOAD_SCRIPT, onePiece(Buffer.from(loadScript(facts))));
          const bytes = facts.tables.reduce((sum, table) => sum + table.bytes, 0);
          this.#requireSize(tenantId, bytes);
          return this.#filled(facts, null);
        },
      });
      this.#end = undefined;
      this.#keep(done);
    });
  }

  /** A tenant whose rows are not to be believed, or could not be read. */
  fail(tenantId: string, error: unknown): void {
    this.#failedDraft(this.#draft(tenantId), error);
  }

  /** Waits until every storage has, or has missed, everything. */
  async finish(): Promise<void> {
    try {
      await this.#lanes.finish();
    } finally {
      await this.#keepChain();
      const finishedAt = this.#site.clock.now().toISOString();
      const status = this.#site.signal.aborted ? "interrupted" : "failed";
      for (const draft of this.#drafts.values()) this.#unsaved.push({ ...draft, status, finishedAt });
      this.#flush();
      await this.#saving;
    }
  }

  lost(): Map<string, Error> {
    return new Map([...this.#settings.storages.lost, ...this.#lanes.lost()]);
  }

  #draft(tenantId: string): Backup {
    const draft = this.#drafts.get(tenantId);
    if (draft === undefined) throw new JBackupError("bug", `the backup of tenant ${tenantId} was not begun`);
    this.#drafts.delete(tenantId);
    return draft;
  }

  async #orFailed(draft: Backup, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const isOver = error instanceof JBackupError && error.code === "too_few_copies";
      if (this.#site.signal.aborted || isOver) this.#drafts.set(draft.tenantId ?? "", draft);
      this.#site.signal.throwIfAborted();
      if (isOver) throw error;
      this.#failedDraft(draft, error);
    }
  }

  #failedDraft(draft: Backup, error: unknown): void {
    if (!(error instanceof JBackupError)) throw error;
    const tenantId = draft.tenantId ?? "";
    this.failed.push({ tenantId, error: error.message });
    if (this.failed.length <= TOLD_MOST) this.#site.report.warn(`tenant ${tenantId}: ${error.message}`);
    const finishedAt = this.#site.clock.now().toISOString();
    this.#save({ ...draft, status: "failed", finishedAt, metadata: { error: reasonOf(error) } });
  }

  #requireSize(tenantId: string, bytes: number): void {
    const { earlier, acceptShrunken } = this.#settings;
    if (!acceptShrunken) requireNotShrunken(tenantId, bytes, earlier.lastOf(tenantId));
  }

  async #judge(facts: TenantFacts, bytes: number): Promise<{ filled: Filled; need: NeededBackup | null }> {
    this.#requireSize(facts.id, bytes);
    const { earlier, keys, storages } = this.#settings;
    this.#signers ??= await trustedSigners(this.#site);
    const last = earlier.lastOf(facts.id);
    const fingerprint = fingerprintOf(facts, keys);
    const { usable } = storages;
    const need = await sameContent(this.#site, earlier, last, fingerprint, usable, keys, this.#signers);
    return { filled: this.#filled(facts, need), need };
  }

  #filled(facts: TenantFacts, need: NeededBackup | null): Filled {
    const { server, timeline, keys } = this.#settings;
    return {
      server,
      timeline,
      startLsn: facts.lsn,
      endLsn: facts.lsn,
      parentId: this.#settings.parentId,
      warnings: [],
      metadata: {
        fingerprint: fingerprintOf(facts, keys),
        snapshotAt: facts.snapshotAt,
        source: facts.source,
        ...(need === null ? {} : { sameAs: need.backupId }),
      },
      detail: { tenant: facts },
      ...(need === null ? {} : { needs: [need] }),
    };
  }

  async #sign(
    draft: Backup,
    filled: Filled,
    object: SealedObject | null,
    rawBytes: number,
    dataKey: Buffer,
  ): Promise<void> {
    const { format } = this.#site;
    const { keys } = this.#settings;
    const finished = {
      rawBytes,
      storedBytes: object?.bytes ?? 0,
      objects: object === null ? [] : [{ name: object.name, bytes: object.bytes, sha256: object.sha256 }],
    };
    const wrapped = await format.wrapDataKey(dataKey, keys.recipients, draft.id);
    this.#audit ??= auditHead(this.#site); // once: a run may store thousands
    const audit = await this.#audit;
    this.#end ??= await chainEnd(this.#site);
    const follows = { end: this.#end, audit };
    const body = bodyOf(this.#site, draft, filled, finished, format.commitmentOf(dataKey), follows);
    const manifest = format.signManifest(body, wrapped, keys.signing);
    const digest = format.digestOf(body);
    this.#end = { sequence: body.sequence, digest };
    const folder = folderOf("tenant", draft.id, new Date(draft.createdAt), draft.tenantId);
    await this.#lanes.store({ facts: { draft, body, digest, folder }, folder, object, manifest });
  }

  #settled({ draft, body, digest, folder }: Stored, holding: string[], error: Error | null): void {
    if (error !== null) {
      if (this.#site.signal.aborted) this.#drafts.set(draft.tenantId ?? "", draft);
      else this.#failedDraft(draft, error);
      return;
    }
    const done = recordOf(body, digest, copiesOf(this.#site, folder, body.storedBytes, holding));
    this.#keep(done);
  }

  #keep(done: Backup): void {
    this.backups.add(this.#settings.placeOf(done.tenantId ?? ""), done);
    this.#save(done);
  }

  #save(backup: Backup): void {
    this.#unsaved.push(backup);
    if (this.#unsaved.length >= SAVED_AT_ONCE) this.#flush();
  }

  #flush(): void {
    const saved = this.#unsaved.splice(0);
    if (saved.length > 0) this.#saving = this.#saving.then(() => this.#site.catalog.saveBackups(saved));
    this.#saving.catch(() => undefined); // told by finish
  }

  /** Whoever backs up next goes on from here. */
  async #keepChain(): Promise<void> {
    if (this.#end === undefined) return;
    try {
      await moveChain(this.#site, this.#end);
    } catch (error) {
      this.#site.report.warn(
        `the end of the chain of manifests could not be noted in ${this.#site.config.home}: ${reasonOf(error)}`,
      );
    }
  }
}

function filesOf(facts: TenantFacts, rows: Buffer[]): { name: string; content: Buffer }[] {
  const tables = facts.tables.map(({ entry }, at) => ({ name: entry, content: rows[at] ?? Buffer.alloc(0) }));
  return [...tables, { name: LOAD_SCRIPT, content: Buffer.from(loadScript(facts)) }];
}

async function* onePiece(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}

export const sha256Hex = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
