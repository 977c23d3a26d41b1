import { COMMANDS, GLOBAL_OPTIONS, GROUPS } from "./tree.js";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

const longFlag = (flags: string): string => /--[a-z-]+/.exec(flags)?.[0] ?? "";

/** What may follow which words. */
function choices(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const add = (path: string, words: string[]): void => {
    found.set(path, [...new Set([...(found.get(path) ?? []), ...words])]);
  };
  const globals = GLOBAL_OPTIONS.map(([flags]) => longFlag(flags));
  add("", ["help", ...globals]);
  for (const { usage, options } of COMMANDS) {
    const words = usage.split(" ").filter((word) => /^[a-z]/.test(word));
    words.forEach((word, at) => {
      add(words.slice(0, at).join(" "), [word]);
    });
    add(words.join(" "), [...(options ?? []).map(([flags]) => longFlag(flags)), ...globals]);
  }
  add("completion", [...SHELLS]);
  add("help", ["exit-codes", ...GROUPS.map(({ name }) => name)]);
  return found;
}

const bash = (): string => `_jbackup() {
  local path="" word
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in -*) ;; *) path="\${path:+$path }$word" ;; esac
  done
  local words=""
  case "$path" in
${[...choices()].map(([path, words]) => `    "${path}") words="${words.join(" ")}" ;;`).join("\n")}
  esac
  COMPREPLY=( $(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}") )
}
complete -o default -F _jbackup jbackup
`;

const zsh = (): string => `autoload -U +X bashcompinit && bashcompinit\n${bash()}`;

const fish = (): string =>
  [...choices()]
    .flatMap(([path, words]) => {
      const seen = path.split(" ").filter((word) => word !== "");
      const condition =
        seen.length === 0
          ? "__fish_use_subcommand"
          : seen.map((word) => `__fish_seen_subcommand_from ${word}`).join("; and ");
      return words.map((word) =>
        word.startsWith("--")
          ? `complete -c jbackup -n '${condition}' -l ${word.slice(2)}`
          : `complete -c jbackup -f -n '${condition}' -a ${word}`,
      );
    })
    .join("\n")
    .concat("\n");

export const completionScript = (shell: Shell): string => ({ bash, zsh, fish })[shell]();
