import { JBackupError, reasonOf } from "../../domain/errors.js";
import { metricsText } from "../../domain/metrics.js";
import { metricsOf } from "../../engine/metrics.js";
import { type ListenPlace, serveMetrics } from "../../engine/serveMetrics.js";
import { siteStatus } from "../../engine/status.js";
import { writeFileAtomic } from "../../sys/atomicFile.js";
import { type CommandRun, withSite, withSiteToRead } from "../context.js";
import { textFlag } from "../flags.js";
import { outFile } from "../outFile.js";

/** Whoever collects it is another user, and nothing in it is secret. */
const MODE = 0o644;

export const run: CommandRun = async (context, _args, options) => {
  const { output, version } = context;
  const file = await outFile(context, options);
  const place = listenPlace(textFlag(options, "listen"));
  if (file !== undefined && place !== null)
    throw new JBackupError("usage", "--out and --listen exclude each other", {
      hint: "write a file for node_exporter with --out, or serve it with --listen",
    });
  if (place !== null)
    return withSite(context, async (site) => {
      await serveMetrics(site, place, ({ host, port }) =>
        output.report.info(
          `serving http://${host.includes(":") ? `[${host}]` : host}:${port}/metrics and /healthz`,
        ),
      );
      output.answer({ stopped: true }, "");
      return 0;
    });
  return withSiteToRead(context, async (site) => {
    const metrics = metricsOf(await siteStatus(site), version);
    const text = metricsText(metrics);
    if (file === undefined) {
      output.answer(metrics, text);
      return 0;
    }
    await writeForOthers(file, text);
    output.answer({ file, metrics: metrics.length }, "");
    return 0;
  });
};

async function writeForOthers(file: string, text: string): Promise<void> {
  try {
    await writeFileAtomic(file, text, { overwrite: true, mode: MODE });
  } catch (error) {
    throw new JBackupError("failed", `cannot write ${file}: ${reasonOf(error)}`, {
      hint: "give a file in a folder that this user may write to, and that node_exporter reads",
      cause: error,
    });
  }
}

/** `127.0.0.1:9187`, `[::1]:9187`, `localhost:9187`; a port alone is this host's own. */
function listenPlace(text: string | undefined): ListenPlace | null {
  if (text === undefined) return null;
  const [, bracketed, plain, port] =
    /^(?:(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*)):)?(\d{1,5})$/.exec(text) ?? [];
  if (port !== undefined && Number(port) <= 65_535)
    return { host: bracketed ?? (plain || "127.0.0.1"), port: Number(port) };
  throw new JBackupError("usage", `--listen cannot be "${text}"`, {
    hint: "write HOST:PORT, such as 127.0.0.1:9187, [::1]:9187 or 0.0.0.0:9187",
  });
}
