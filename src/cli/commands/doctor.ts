import { secretsOf } from "../../config/config.js";
import { countOf, exitOf, type Finding, finding, GROUPS, worstOf } from "../../domain/diagnosis.js";
import { type ExitCode, isJBackupError, type JBackupError } from "../../domain/errors.js";
import { examine } from "../../engine/doctor.js";
import { type CommandContext, type CommandRun, withSiteToRead } from "../context.js";
import { isSet } from "../flags.js";
import type { Paint } from "../output.js";
import { wrapped } from "../table.js";
import { countedText } from "../text.js";

export const run: CommandRun = async (context, _args, options) => {
  let isOpen = false;
  try {
    return await withSiteToRead(context, async (site) => {
      isOpen = true;
      const findings = await examine(site, { secrets: secretsOf(site.config), fix: isSet(options, "fix") });
      return answer(context, findings);
    });
  } catch (error) {
    // without a configuration, or in another site's home, nothing else can be looked at, and that is a finding, too
    if (isOpen || !isJBackupError(error, ...BEFORE_ANYTHING)) throw error;
    return answer(context, [unconfigured(error)]);
  }
};

const BEFORE_ANYTHING = ["config_missing", "config_invalid", "secret_unavailable", "target_refused"] as const;

const unconfigured = (error: JBackupError): Finding => ({
  ...finding(
    "configuration",
    "configuration",
    "fail",
    error.message,
    error.code === "config_missing" ? `jbackup init writes one; ${error.hint ?? ""}` : (error.hint ?? null),
  ),
  exit: error.exitCode,
});

function answer(context: CommandContext, findings: Finding[]): ExitCode {
  const status = worstOf(findings);
  const checks = findings.map(({ exit: _, ...rest }) => rest);
  context.output.answer({ status, checks }, textOf(findings, context));
  return exitOf(findings);
}

const WIDTH = 7;

const painted = ({ status, fixed }: Finding, paint: Paint): string => {
  const colour = { ok: paint.green, warn: paint.yellow, fail: paint.red }[status];
  return colour((fixed === null ? status : "fixed").padEnd(WIDTH - 2));
};

function textOf(findings: Finding[], { output }: CommandContext): string {
  const { paint, columns } = output;
  const indented = (text: string): string =>
    (Number.isFinite(columns) ? wrapped(text, Math.max(20, columns - WIDTH - 2)) : [text]).join(
      `\n${" ".repeat(WIDTH + 2)}`,
    );
  const blocks = GROUPS.flatMap((group) => {
    const own = findings.filter((one) => one.group === group);
    if (own.length === 0) return [];
    const lines = own.flatMap((one) => [
      `  ${painted(one, paint)}  ${indented(one.message)}`,
      ...(one.fixed === null ? [] : [`${" ".repeat(WIDTH + 2)}${indented(`Done: ${one.fixed}`)}`]),
      ...(one.hint === null ? [] : [`${" ".repeat(WIDTH + 2)}${indented(`Try: ${one.hint}`)}`]),
    ]);
    return [[paint.bold(group), ...lines].join("\n")];
  });
  const many = (status: Finding["status"]): number => countOf(findings, status);
  const fixed = findings.filter((one) => one.fixed !== null).length;
  const summary =
    many("fail") + many("warn") === 0
      ? `All ${many("ok")} checks are ok.`
      : `${countedText(many("fail"), "failure")}, ${countedText(many("warn"), "warning")}, ${many("ok")} ok${fixed > 0 ? `, ${fixed} fixed` : ""}.`;
  return [...blocks, summary].join("\n");
}
