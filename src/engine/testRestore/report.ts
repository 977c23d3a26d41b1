import { access, constants, readFile, stat } from "node:fs/promises";
import { dirname, extname, join, resolve } from "node:path";
import { isJBackupError, JBackupError, reasonOf } from "../../domain/errors.js";
import { SIGNED_AS, type SignedReport, signedText, type TestReport } from "../../domain/testReport.js";
import { htmlOf, jsonOf, textOf } from "../../domain/testReportText.js";
import { compactTime } from "../../domain/time.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import type { Site } from "../site.js";
import { sealingKeys, trustedSigners } from "../siteKeys.js";

/** Below the site's home. */
export const REPORTS_FOLDER = "reports";

const FORMS: Record<string, (signed: SignedReport) => string> = {
  ".txt": textOf,
  ".json": jsonOf,
  ".html": htmlOf,
};

export interface ReportFiles {
  text: string;
  json: string;
  html: string;
}

/** Refused before anything is restored: a report that cannot be written after an hour is a pity. */
export async function requireWritable(site: Site, file: string): Promise<string> {
  const path = resolve(site.environment.workingDirectory, file);
  const refuse = (why: string, hint: string) =>
    new JBackupError("usage", `--report ${file}: ${why}`, { hint });
  if (FORMS[extname(path)] === undefined)
    throw refuse("the name tells no form", "end it in .html, .json or .txt");
  if ((await stat(path).catch(() => null))?.isDirectory())
    throw refuse("this is a directory", "name a file in it");
  try {
    await access(dirname(path), constants.W_OK);
  } catch {
    throw refuse(
      `nothing can be written into ${dirname(path)}`,
      "name a folder that is there and may be written to",
    );
  }
  return path;
}

/** With the key that signs the site's manifests: who trusts those can trust this. */
export async function signReport(site: Site, report: TestReport): Promise<SignedReport> {
  try {
    const { signing } = await sealingKeys(site);
    return {
      report,
      signature: site.format.signDetached(Buffer.from(signedText(report)), signing, SIGNED_AS),
    };
  } catch (error) {
    if (!isJBackupError(error, "secret_unavailable", "config_invalid")) throw error;
    site.report.warn(`the report is not signed: ${error.message}`);
    return { report, signature: null };
  }
}

/** In all three forms below the site's home, and once more where it was asked for. */
export async function writeReports(
  site: Site,
  signed: SignedReport,
  copy: string | null,
): Promise<ReportFiles> {
  const { site: name, startedAt } = signed.report;
  const stem = `test-restore-${name}-${compactTime(new Date(startedAt))}`;
  const write = async (path: string): Promise<string> => {
    const form = FORMS[extname(path)] as (signed: SignedReport) => string;
    try {
      await writeFileAtomic(path, form(signed), { overwrite: true, mode: 0o600 });
    } catch (error) {
      throw new JBackupError("failed", `the report cannot be written: ${reasonOf(error)}`, {
        hint: `make room in ${dirname(path)}, and see who may write there; then run the test again`,
        cause: error,
      });
    }
    return path;
  };
  const inHome = (extension: string): Promise<string> =>
    write(join(site.config.home, REPORTS_FOLDER, `${stem}${extension}`));
  const files = { text: await inHome(".txt"), json: await inHome(".json"), html: await inHome(".html") };
  if (copy !== null) await write(copy);
  return files;
}

const IN_PAGE = /<script type="application\/json" id="report">(.*?)<\/script>/s;

export interface CheckedReport extends SignedReport {
  /** Whether what a page shows was compared with what was signed; another version may have drawn it otherwise. */
  pageCompared: boolean;
}

/** Whether a report is as it was signed, by somebody whom the site trusts. */
export async function checkReport(site: Site, file: string): Promise<CheckedReport> {
  const path = resolve(site.environment.workingDirectory, file);
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new JBackupError("not_found", `cannot read ${path}: ${reasonOf(error)}`, {
      hint: "name a report in its .json or .html form",
    });
  });
  const signed = parsed(text, path);
  if (signed.signature === null)
    throw new JBackupError("verification_failed", `${path} is not signed`, {
      hint: "the host that made it held no signing key: nobody can tell whether it was changed",
    });
  site.format.verifyDetached(Buffer.from(signedText(signed.report)), signed.signature, {
    signers: await trustedSigners(site),
    domain: SIGNED_AS,
    what: path,
  });
  const pageCompared = extname(path) === ".html" && signed.report.jbackup === site.version;
  // what people read in a page is not what was signed: it must be made of it
  if (pageCompared && text !== htmlOf(signed))
    throw new JBackupError("verification_failed", `what ${path} shows is not what was signed`, {
      hint: "the signed report in it is whole: look at its .json form",
    });
  return { ...signed, pageCompared };
}

function parsed(text: string, path: string): SignedReport {
  const wrong = (cause: unknown) =>
    new JBackupError("usage", `${path} holds no report of a test restore`, {
      hint: "name a report in its .json or .html form",
      cause,
    });
  let value: Partial<SignedReport> | null;
  try {
    value = JSON.parse(IN_PAGE.exec(text)?.[1] ?? text) as Partial<SignedReport> | null;
  } catch (error) {
    throw wrong(error);
  }
  if (value?.report?.kind !== "test-restore" || value.signature === undefined) throw wrong(null);
  return value as SignedReport;
}
