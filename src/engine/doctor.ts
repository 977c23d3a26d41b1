import type { LazySecret } from "../domain/config.js";
import { type Finding, inOrder } from "../domain/diagnosis.js";
import { reasonOf } from "../domain/errors.js";
import { type Check, type Diagnosed, lookInTime } from "./doctor/check.js";
import { configuration, files } from "./doctor/hostChecks.js";
import { keys } from "./doctor/keyChecks.js";
import { proof } from "./doctor/proofChecks.js";
import { alerts, audit, catalog, schedule } from "./doctor/recordChecks.js";
import { server, tenants } from "./doctor/serverChecks.js";
import { storageChecks } from "./doctor/storageChecks.js";
import type { Site } from "./site.js";

export interface DoctorRequest {
  /** Everything in the configuration that has to be fetched from somewhere. */
  secrets: readonly LazySecret[];
  /** Does what is safe; what it did is told with each finding. */
  fix: boolean;
}

/** Every precondition of backups and restores, looked at side by side; none keeps another waiting. */
export async function examine(site: Site, { secrets, fix }: DoctorRequest): Promise<Finding[]> {
  const checks: Check[] = [
    configuration(secrets),
    files,
    server,
    ...storageChecks(site),
    keys,
    catalog,
    audit,
    schedule,
    proof,
    tenants,
    alerts,
  ];
  let done = 0;
  const found = await Promise.all(
    checks.map(async (check) => {
      const findings = await lookInTime(site, check);
      done++;
      site.report.progress({ task: "looking", done, total: checks.length, unit: "steps" });
      return findings;
    }),
  );
  site.report.progressEnd();
  const findings: Finding[] = [];
  for (const one of found.flat()) findings.push(fix ? await treated(one) : told(one));
  return inOrder(findings);
}

const told = ({ fix: _, ...rest }: Diagnosed): Finding => rest;

async function treated(diagnosed: Diagnosed): Promise<Finding> {
  const { fix } = diagnosed;
  const finding = told(diagnosed);
  if (fix === undefined || finding.status === "ok") return finding;
  try {
    return { ...finding, status: "ok", hint: null, fixed: await fix() };
  } catch (error) {
    return { ...finding, message: `${finding.message}; it could not be fixed: ${reasonOf(error)}` };
  }
}
