import type { PhysicalFacts } from "../../domain/physical.js";
import { holeText } from "../../domain/walCoverage.js";
import { openChain } from "../files/chain.js";
import type { FoundBackup } from "../findBackup.js";
import { planWal } from "../recovery/planWal.js";
import { binDirectoryFor } from "../recovery/serverFor.js";
import { type ScratchServer, type ScratchWish, withScratchCluster } from "../scratch.js";
import type { Site } from "../site.js";
import type { Protocol } from "./protocol.js";
import type { Tested, WalFinding } from "./tested.js";

/** A physical backup, with all the WAL behind it, on a server of our own. */
export async function testFiles(
  site: Site,
  found: FoundBackup,
  protocol: Protocol,
  work: (tested: Tested, wal: WalFinding) => Promise<void>,
): Promise<void> {
  const chain = await protocol.step("open the backup", () => openChain(site, found));
  const { facts } = chain;
  const binDirectory = await binDirectoryFor(site, facts);
  const { recovery, finding } = await protocol.step("plan the WAL", () => wayOn(site, facts));
  const { database } = await site.postgres();
  const startedAt = site.clock.monotonicMs();
  const at = site.clock.now();
  await withScratchCluster(site, { chain, binDirectory, recovery }, async (scratch) => {
    const { laidOutMs } = scratch;
    protocol.note(at.toISOString(), `fetch and lay out ${facts.files} files`, laidOutMs);
    protocol.note(
      new Date(at.getTime() + laidOutMs).toISOString(),
      recovery === null ? "start the server" : "start the server and replay the WAL",
      site.clock.monotonicMs() - startedAt - laidOutMs,
    );
    const postgres = await scratch.open(database);
    const tested: Tested = {
      postgres,
      open: (name) => scratch.open(name),
      major: facts.server.major,
      recovery: reachedIn(scratch, facts, finding),
      recorded: {
        how: chain.census === null ? "not" : "estimated",
        tables: chain.census?.tables ?? [],
        databases: chain.census?.databases.map(({ name }) => name) ?? null,
      },
      isLater: recovery !== null,
      checkPages: facts.hasPageChecksums ? () => checkPages(site, scratch, binDirectory) : null,
      abort: () => scratch.stop("immediate"),
    };
    await work(tested, finding);
  });
}

type WayOn = Pick<ScratchWish, "recovery">;

/** As far as the WAL leads. A gap in it is a finding, and what lies before it is restored all the same. */
async function wayOn(site: Site, facts: PhysicalFacts): Promise<WayOn & { finding: WalFinding }> {
  const target = { kind: "latest" } as const;
  const wal = await planWal(site, facts, target, { upToHole: true });
  const { hole, until } = wal.path;
  const gap =
    hole === null ? null : `WAL is missing (${holeText(hole)}), and nothing behind it can be reached`;
  return {
    recovery: wal.files.length === 0 ? null : { target, wal, ending: "promoted" },
    finding: { files: wal.files.length, gap, until },
  };
}

function reachedIn(
  { reached }: ScratchServer,
  facts: PhysicalFacts,
  { files, until }: WalFinding,
): Tested["recovery"] {
  const lastCommitAt = reached?.lastCommitAt == null ? null : isoOf(reached.lastCommitAt);
  // a quiet site commits nothing, and yet everything up to there would be here
  const whole = reached === null || until === null ? [] : [until.toISOString()];
  const moments = [facts.endTime, ...whole, ...(lastCommitAt === null ? [] : [lastCommitAt])];
  return {
    recoveredTo: moments.sort().at(-1) ?? facts.endTime,
    lastCommitAt,
    replayedLsn: reached?.replayedLsn ?? null,
    walFiles: files,
    serverVersion: facts.server.version,
  };
}

/** PostgreSQL's text of a time in UTC. */
const isoOf = (text: string): string =>
  new Date(`${text.replace(" ", "T").replace(/\+00$/, "")}Z`).toISOString();

async function checkPages(site: Site, scratch: ScratchServer, binDirectory: string) {
  const { checkPageChecksums } = await site.clusters();
  await scratch.stop("fast");
  return checkPageChecksums({
    dataDirectory: scratch.dataDirectory,
    binDirectory,
    environment: { path: site.environment.path, home: site.environment.home },
    owner: scratch.owner,
    signal: site.signal,
  });
}
