import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Backup, Restore } from "../../domain/backup.js";
import type { Clock } from "../../sys/clock.js";
import type { Site } from "../site.js";
import type { Proof } from "./proof.js";
import { deletedTenant, droppedTable, lostCatalog, lostStorage, safety } from "./scenes.js";
import { type Stage, writeConfig } from "./stage.js";

export type { Proof, ProofLine } from "./proof.js";

export interface DemoRequest {
  /** Where the demo's own folder is made, and removed again. */
  temporaryDirectory: string;
  clock: Clock;
  signal: AbortSignal;
  startCluster(): Promise<{ version: string; url(database: string): string; stop(): Promise<void> }>;
  openSite(configFile: string, home: string): Promise<Site>;
  /** Tells the story, a line at a time. */
  say(line: string): void;
  /** Shows that something came back. */
  show(proof: Proof): void;
}

export interface DemoResult {
  ok: true;
  durationMs: number;
  backup: Backup;
  restores: Restore[];
  proofs: Proof[];
  /** How many fingerprints were compared, and found equal. */
  compared: number;
  rowsCompared: number;
}

/** The whole story on a throwaway PostgreSQL: back up, four disasters, bring back, prove. Leaves nothing behind. */
export async function runDemo(request: DemoRequest): Promise<DemoResult> {
  const { clock, say, signal, temporaryDirectory } = request;
  const startedMs = clock.monotonicMs();
  signal.throwIfAborted();
  const cluster = await request.startCluster();
  const home = await mkdtemp(join(temporaryDirectory, "jbackup-demo-"));
  try {
    say(`A throwaway PostgreSQL ${cluster.version}, and three disks for backups.`);
    const file = join(home, "jbackup.yaml");
    await writeConfig(file, home, cluster.url("shop"));
    const told = await tell({ home, signal, say, open: () => request.openSite(file, home) }, request.show);
    return { ...told, durationMs: Math.round(clock.monotonicMs() - startedMs) };
  } finally {
    await cluster.stop();
    await rm(home, { recursive: true, force: true });
  }
}

async function tell(stage: Stage, show: (proof: Proof) => void): Promise<Omit<DemoResult, "durationMs">> {
  const proofs: Proof[] = [];
  const restores: Restore[] = [];
  const backup = await safety(stage);
  for (const scene of [droppedTable, deletedTenant, lostStorage, lostCatalog]) {
    const played: { restore?: Restore; proofs: Proof[] } = await scene(stage);
    for (const proof of played.proofs) show(proof);
    proofs.push(...played.proofs);
    if (played.restore) restores.push(played.restore);
  }
  const lines = proofs.flatMap((proof) => proof.lines);
  return {
    ok: true,
    backup,
    restores,
    proofs,
    compared: lines.length,
    rowsCompared: lines.reduce((sum, { rows }) => sum + rows, 0),
  };
}
