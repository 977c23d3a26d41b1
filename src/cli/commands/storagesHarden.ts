import type { ProbedRights } from "../../domain/rights.js";
import { adviseStorages, type HardenedStorage, probeAllRights } from "../../engine/hardenStorages.js";
import { type CommandRun, withSite } from "../context.js";
import { isSet } from "../flags.js";
import type { Paint } from "../output.js";
import { wrapped } from "../table.js";

export const run: CommandRun = (context, _args, options) =>
  withSite(context, async (site) => {
    const { paint, columns } = context.output;
    const isTried = isSet(options, "check");
    const storages = isTried ? await probeAllRights(site) : adviseStorages(site);
    const text = storages.map((one) => storageText(one, paint, columns).join("\n")).join("\n\n");
    const more = isTried ? "" : "\n\nNothing was tried: jbackup storages harden --check does that.";
    context.output.answer(storages, text + more);
    if (storages.some(({ error }) => error !== null)) return 1;
    return storages.some(({ problems }) => problems.length > 0) ? 4 : 0;
  });

const RIGHTS: [key: keyof Omit<ProbedRights, "left">, what: string][] = [
  ["write", "write"],
  ["read", "read"],
  ["list", "list"],
  ["overwrite", "overwrite"],
  ["delete", "delete"],
  ["deleteVersion", "delete versions"],
  ["listOutside", "see outside of the prefix"],
];

function storageText(one: HardenedStorage, paint: Paint, columns: number): string[] {
  const { storage, provider, rights, problems, advice, left, error } = one;
  const name = provider === one.kind ? one.kind : `${one.kind}, ${provider}`;
  const verdict =
    error !== null
      ? paint.red("could not be asked")
      : rights === null
        ? "not tried"
        : problems.length === 0
          ? paint.green("ok")
          : paint.red("not safe from its own credentials");
  const places = Math.min(Number.isFinite(columns) ? columns : 100, 100) - 4;
  // a command that is copied stays on one line
  const lines = (texts: string[], mark: string): string[] =>
    texts.flatMap((text) =>
      (isCommand(text) ? [text] : wrapped(text, places)).map(
        (line, at) => `${at === 0 ? mark : "    "}${line}`,
      ),
    );
  return [
    `${paint.bold(storage)} (${name}): ${verdict}`,
    ...(error === null ? [] : lines([error], "  ! ")),
    ...(rights === null ? [] : [`  may      ${listed(rights, "yes")}`, `  may not  ${listed(rights, "no")}`]),
    ...(rights === null ? [] : [`  the bucket ${protection(rights)}`].filter(() => one.kind !== "local")),
    ...lines(problems, "  ! "),
    ...(advice.length > 0 ? ["  What to set:", ...lines(advice, "  - ")] : []),
    ...left.map((key) => `  Left there, for cleanup to sweep: ${key}`),
  ];
}

const isCommand = (text: string): boolean => /^(npx|aws|b2) /.test(text);

const listed = (rights: Omit<ProbedRights, "left">, answer: "yes" | "no"): string =>
  RIGHTS.filter(([key]) => rights[key] === answer)
    .map(([, what]) => what)
    .join(", ") || "nothing";

function protection({ versioning, objectLock }: Omit<ProbedRights, "left">): string {
  const versions = {
    yes: "keeps older versions",
    no: "keeps no older versions",
    unknown: "does not tell of versions",
  };
  const locks = { yes: "has Object Lock", no: "has no Object Lock", unknown: "does not tell of locks" };
  return `${versions[versioning]} and ${locks[objectLock]}`;
}
