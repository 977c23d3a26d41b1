import { EXIT_CODES } from "../domain/errors.js";
import { COMMANDS, type CommandSpec, GLOBAL_OPTIONS } from "./tree.js";

/** Nothing of a text is taken for a command of the typesetter. */
const plain = (text: string): string =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(['.])/gm, "\\&$1");
const sentence = (text: string): string => {
  const whole = /[.?!]$/.test(text) ? text : `${text}.`;
  // a word that one types stays as it is typed
  return plain(/^[a-z]+[ ,]/.test(whole) ? whole.charAt(0).toUpperCase() + whole.slice(1) : whole);
};

const term = (head: string, text: string): string[] => [".TP", `\\fB${plain(head)}\\fR`, text];

function commandLines({ usage, summary, options = [], examples, exits }: CommandSpec): string[] {
  return [
    `.SS "jbackup ${plain(usage)}"`,
    sentence(summary),
    ...options.flatMap(([flags, text]) => term(flags, sentence(text))),
    ".PP",
    "Examples:",
    ".nf",
    ...examples.flatMap(([command, what]) => [`.RS 4\n# ${plain(what)}`, `${plain(command)}\n.RE`]),
    ".fi",
    ".PP",
    `Exit codes: ${exits.join(", ")}.`,
  ];
}

/** The manual, from the table that the program itself uses. */
export const manPage = (version: string): string =>
  `${[
    '.\\" Made by npm run man from the table of commands; changes here would be lost.',
    `.TH JBACKUP 1 "" "jbackup ${version}" "User Commands"`,
    ".SH NAME",
    "jbackup \\- backup and restore for a multi\\-tenant PostgreSQL",
    ".SH SYNOPSIS",
    ".B jbackup",
    ".I COMMAND",
    "[\\fIOPTION\\fR...]",
    ".SH DESCRIPTION",
    plain(
      "Backs up a PostgreSQL cluster, its write-ahead log, each of its tenants and its configuration into several storages at once, sealed and signed, and brings it back: all of it, at any moment, or one tenant alone. Without arguments on a terminal, init, restore and dr run ask their way through.",
    ),
    ".SH COMMANDS",
    ...COMMANDS.flatMap(commandLines),
    ".SH EVERYWHERE",
    ...GLOBAL_OPTIONS.flatMap(([flags, text]) => term(flags, sentence(text))),
    ...term("-h, --help", sentence("help for the command before it")),
    ...term("--version", sentence("the version")),
    ".SH FILES",
    ...term(
      "./jbackup.yaml, /etc/jbackup/jbackup.yaml",
      "The configuration, where \\fB\\-\\-config\\fR and JBACKUP_CONFIG name none.",
    ),
    ...term(
      "~/.local/share/jbackup, /var/lib/jbackup",
      "Catalog, journals, generated keys and the default storage; the second for root. JBACKUP_HOME names another folder.",
    ),
    ".SH ENVIRONMENT",
    ...term("JBACKUP_CONFIG", "The configuration file."),
    ...term("JBACKUP_HOME", "The folder of everything that jbackup keeps on this host."),
    ...term("NO_COLOR", "No colours."),
    ".SH EXIT STATUS",
    ...Object.entries(EXIT_CODES).flatMap(([code, meaning]) => term(code, sentence(meaning))),
    plain(
      "wal push ends with 0 or 1, and wal fetch with 0, 1 or more than 125: PostgreSQL reads its own meaning into others.",
    ),
  ].join("\n")}\n`;
