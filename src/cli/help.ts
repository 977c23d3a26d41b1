import type { Command } from "commander";
import { EXIT_CODES, type ExitCode } from "../domain/errors.js";
import { wrapped } from "./table.js";
import { type CommandSpec, GLOBAL_OPTIONS } from "./tree.js";

type Rows = [left: string, right: string][];

const WIDEST = 100;

/** Two columns; a long right half goes on below itself. */
function indent(rows: Rows, places: number): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  const room = Math.min(WIDEST, places) - width - 4;
  if (room < 24) return rows.map(([left, right]) => `  ${left}\n      ${right}`).join("\n");
  return rows
    .map(
      ([left, right]) =>
        `  ${left.padEnd(width)}  ${wrapped(right, room).join(`\n${" ".repeat(width + 4)}`)}`,
    )
    .join("\n");
}

const section = (title: string, rows: Rows, places: number): string =>
  rows.length === 0 ? "" : `${title}:\n${indent(rows, places)}\n\n`;

/** A line that is copied stays whole; what it does goes above it when both do not fit. */
function examplesText(rows: Rows, places: number): string {
  const room = Math.min(WIDEST, places);
  const width = Math.max(...rows.map(([line]) => line.length));
  const text = rows.every(([, what]) => width + what.length + 4 <= room)
    ? rows.map(([line, what]) => `  ${line.padEnd(width)}  ${what}`)
    : rows.flatMap(([line, what]) => [...wrapped(what, room - 4).map((part) => `  # ${part}`), `  ${line}`]);
  return `Examples:\n${text.join("\n")}\n\n`;
}

const FIRST_STEPS: Rows = [
  ["jbackup demo", "see the whole story on a throwaway PostgreSQL"],
  ["jbackup init", "look at your PostgreSQL, write jbackup.yaml, back up"],
  ["jbackup list", "what there is"],
  ['jbackup restore latest --into-db check --reason "test"', "bring it back beside the live one"],
];

export const pathOf = (command: Command): string =>
  command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();

/** Examples first: that is what somebody in a hurry copies. */
export function helpOf(command: Command, specs: CommandSpec[], places: number): string {
  const path = pathOf(command);
  const spec = specs.find(({ usage }) => isUsageOf(usage, path));
  const inside = specs.filter(({ usage }) => `jbackup ${usage}`.startsWith(`${path} `));
  const options = spec?.options ?? [];
  const usage = spec ? `jbackup ${spec.usage}${options.length > 0 ? " [options]" : ""}` : `${path} COMMAND`;
  const examples =
    spec?.examples ?? (command.parent ? inside.flatMap(({ examples: own }) => own.slice(0, 1)) : FIRST_STEPS);
  const exits = (spec?.exits ?? []).map((exit): [string, string] => [String(exit), EXIT_CODES[exit]]);
  return [
    examplesText(examples, places),
    `Usage: ${usage}\n\n`,
    `${wrapped(sentence(command.description()), Math.min(WIDEST, places)).join("\n")}\n\n`,
    section(
      "Commands",
      command.commands.map((sub) => [sub.name(), sub.summary()]),
      places,
    ),
    section("Options", options, places),
    section("Everywhere", [...GLOBAL_OPTIONS, ["-h, --help", "this help"]], places),
    section("Exit codes", exits, places),
    command.parent ? "" : "More: jbackup help COMMAND, jbackup help exit-codes\n",
  ]
    .join("")
    .trimEnd()
    .concat("\n");
}

const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;

export const isUsageOf = (usage: string, path: string): boolean =>
  `jbackup ${usage.replace(/ [[<].*$/, "")}` === path;

export const exitCodesText = (places: number): string =>
  `${indent(
    Object.entries(EXIT_CODES).map(([exit, meaning]) => [exit, meaning]),
    places,
  )}\n`;

export const exitCodesList = (): { exitCode: ExitCode; meaning: string }[] =>
  Object.entries(EXIT_CODES).map(([exit, meaning]) => ({ exitCode: Number(exit) as ExitCode, meaning }));
