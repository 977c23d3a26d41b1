import { readEnvironment } from "../../src/config/config.js";
import type { Progress, Site } from "../../src/engine/site.js";
import { openSite } from "../../src/wire.js";
import type { TestSite } from "./site.js";

/** A test's site opened in this process, for what no command shows. Warnings are kept. */
export async function openTestSite(
  site: Pick<TestSite, "configFile" | "home">,
  variables: Record<string, string> = {},
  onProgress: (state: Progress) => void = () => undefined,
): Promise<Site & { warnings: string[] }> {
  const warnings: string[] = [];
  const quiet = (): void => undefined;
  const opened = await openSite({
    configFile: site.configFile,
    environment: { ...readEnvironment({ ...process.env, ...variables }), jbackupHome: site.home },
    report: { info: quiet, warn: (text) => warnings.push(text), progress: onProgress, progressEnd: quiet },
    signal: new AbortController().signal,
    onSecret: quiet,
    version: "0.0.0",
  });
  return Object.assign(opened, { warnings });
}
