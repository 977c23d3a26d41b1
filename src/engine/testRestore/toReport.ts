import { missedOf, statusOf, type TestReport } from "../../domain/testReport.js";
import type { FoundBackup } from "../findBackup.js";
import type { RunContext } from "../run.js";
import type { Site } from "../site.js";
import { unjudgedFor } from "./newest.js";
import type { Protocol } from "./protocol.js";
import type { Readings } from "./readings.js";

export interface Testing {
  site: Site;
  run: RunContext;
  tenants: number;
  found: FoundBackup;
  protocol: Protocol;
  startedMs: number;
}

/** What the checks come to, as far as they got. */
export interface Seen extends Pick<TestReport, "recovery" | "rtoMs" | "tables" | "rowsRecorded"> {}

export async function reportOf(testing: Testing, seen: Seen, readings: Readings): Promise<TestReport> {
  const { site, run, found, protocol, startedMs } = testing;
  const { body, digest, signature } = found.manifest;
  const { rtoMs, rpoMs: objective } = site.config.objectives;
  const startedAt = run.startedAt.toISOString();
  const recoveredTo = seen.recovery?.recoveredTo ?? null;
  const measured = {
    rtoMs: seen.rtoMs,
    rpoMs: recoveredTo === null ? null : Math.max(0, Date.parse(startedAt) - Date.parse(recoveredTo)),
  };
  const unjudged = await unjudgedFor(site, found);
  const objectives = { rtoMs, rpoMs: objective };
  return {
    kind: "test-restore",
    format: 1,
    id: run.id,
    site: site.config.site,
    host: site.environment.host,
    by: run.by,
    jbackup: site.version,
    status: statusOf(protocol.checks),
    startedAt,
    finishedAt: site.clock.now().toISOString(),
    durationMs: Math.round(site.clock.monotonicMs() - startedMs),
    backup: {
      id: body.backupId,
      label: body.label,
      method: body.method ?? "logical",
      createdAt: body.createdAt,
      finishedAt: body.finishedAt,
      manifestSha256: digest,
      signer: signature.signer,
      madeWith: `${body.tool.name} ${body.tool.version}`,
      serverVersion: body.server?.version ?? "unknown",
      buildsOn: body.needs?.map(({ backupId }) => backupId) ?? [],
      bytes: typeof body.metadata.clusterBytes === "number" ? body.metadata.clusterBytes : body.rawBytes,
    },
    recovery: seen.recovery,
    storages: await readings.storages(),
    objectives,
    ...measured,
    missed: missedOf(measured, objectives).filter((one) => one === "rto" || unjudged === null),
    unjudged,
    checks: protocol.checks,
    tables: seen.tables,
    rowsRecorded: seen.rowsRecorded,
    timeline: protocol.timeline,
    remarks: [...readings.warnings, ...body.warnings, ...protocol.remarks],
  };
}
