import type { JobRequest } from "../../domain/backup.js";
import { isJBackupError, JBackupError } from "../../domain/errors.js";
import { pickOne } from "../../domain/reference.js";
import { raiseAlert } from "../alert.js";
import { actorOf, recordAudit } from "../audit.js";
import type { Site } from "../site.js";
import { sealingKeys, trustedSigners } from "../siteKeys.js";
import type { JobEnd } from "./child.js";

const SIGNED_AS = "a run that is wanted once";

const bytesOf = (site: Site, { id, args, dueAt }: Pick<JobRequest, "id" | "args" | "dueAt">): Buffer =>
  Buffer.from(site.format.canonicalJson({ site: site.config.site, id, args, dueAt }));

/** Stores a run that is wanted once; whoever carries out the schedule picks it up when it is due. */
export async function requestRun(site: Site, args: string[], dueAt: Date): Promise<JobRequest> {
  const wanted = { id: site.newId(), args, dueAt: dueAt.toISOString() };
  const { signing } = await sealingKeys(site);
  const request: JobRequest = {
    ...wanted,
    job: args.slice(0, 2).join("-"),
    signature: site.format.signDetached(bytesOf(site, wanted), signing, SIGNED_AS),
    status: "waiting",
    createdAt: site.clock.now().toISOString(),
    createdBy: actorOf(site),
    claimedAt: null,
    claimedBy: null,
    finishedAt: null,
    exitCode: null,
    error: null,
  };
  await site.catalog.saveJobRequest(request);
  return request;
}

export const waitingRequests = (site: Site): Promise<JobRequest[]> =>
  site.catalog.jobRequests({ status: ["waiting", "claimed"] });

export async function cancelRequest(site: Site, reference: string): Promise<JobRequest> {
  const waiting = await site.catalog.jobRequests({ status: ["waiting"] });
  const found = pickOne(
    reference,
    waiting.map(({ id }) => ({ id, label: id })),
  );
  const request = waiting.find(({ id }) => id === found?.id);
  // taken by us, so that nobody begins it any more
  const isOurs =
    request !== undefined &&
    (await site.catalog.claimJobRequest(request.id, actorOf(site), site.clock.now().toISOString()));
  if (request === undefined || !isOurs)
    throw new JBackupError("not_found", `no one-off run "${reference}" is waiting`, {
      hint: "jbackup schedule show lists those that are",
    });
  const finishedAt = site.clock.now().toISOString();
  const cancelled: JobRequest = { ...request, status: "cancelled", finishedAt };
  await site.catalog.saveJobRequest(cancelled);
  await recordAudit(site, "schedule.cancel", request.id, { args: request.args, dueAt: request.dueAt });
  return cancelled;
}

/** This host's runs of this home: they hold one lock, so there is one at a time. */
const taker = ({ environment, config }: Site): string => `${environment.host}:${config.home}`;

/** Those that are due now and nobody else has taken. */
export async function takeDueRequests(site: Site): Promise<JobRequest[]> {
  const now = site.clock.now().toISOString();
  const taken: JobRequest[] = [];
  for (const request of await site.catalog.jobRequests({ status: ["waiting"], dueBy: now })) {
    if (!(await site.catalog.claimJobRequest(request.id, taker(site), now))) continue;
    const claimed: JobRequest = { ...request, status: "claimed", claimedAt: now, claimedBy: taker(site) };
    if (await isSigned(site, claimed)) taken.push(claimed);
    else await refuse(site, claimed);
  }
  return taken;
}

async function isSigned(site: Site, request: JobRequest): Promise<boolean> {
  const { signature } = request;
  if (typeof signature?.signer !== "string" || typeof signature.value !== "string") return false;
  try {
    const signers = await trustedSigners(site);
    const wish = { signers, domain: SIGNED_AS };
    site.format.verifyDetached(bytesOf(site, request), signature, wish);
    return true;
  } catch (error) {
    if (!isJBackupError(error, "verification_failed", "no_key", "config_invalid")) throw error;
    return false;
  }
}

/** Whoever can write to the catalog's database could order anything. */
async function refuse(site: Site, request: JobRequest): Promise<void> {
  const error = "no trusted signer has signed it";
  await settleRequest(site, request, { exitCode: null, error });
  await raiseAlert(site, {
    type: "SECURITY",
    severity: "critical",
    fingerprint: `unsigned_request:${request.id}`,
    message: `the one-off run ${request.id} in the catalog is not carried out: ${error}`,
    hint: "find out who can write to the catalog's database; a run that was meant is asked for anew with --at",
  });
}

/** Only one process at a time takes requests here: what an earlier one left half-done was killed with it, and is wanted still. */
export async function returnKilledRequests(site: Site): Promise<void> {
  for (const request of await site.catalog.jobRequests({ status: ["claimed"] })) {
    if (request.claimedBy !== taker(site)) continue;
    site.report.warn(`the one-off run ${request.args.join(" ")} was cut off; it is begun again`);
    await returnRequest(site, request);
  }
}

export const returnRequest = (site: Site, request: JobRequest): Promise<void> =>
  site.catalog.saveJobRequest({ ...request, status: "waiting", claimedAt: null, claimedBy: null });

export const settleRequest = (
  site: Site,
  request: JobRequest,
  { exitCode, error }: Pick<JobEnd, "exitCode" | "error">,
): Promise<void> =>
  site.catalog.saveJobRequest({
    ...request,
    status: exitCode === 0 || exitCode === 3 ? "done" : "failed",
    finishedAt: site.clock.now().toISOString(),
    exitCode,
    error,
  });
