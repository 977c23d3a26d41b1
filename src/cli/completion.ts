import { COMMANDS, GLOBAL_OPTIONS, GROUPS } from "./tree.js";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

interface Word {
  text: string;
  what: string;
}

/** What may be typed after the command words that stand there already. */
interface Place {
  path: string;
  words: Word[];
  flags: (Word & { takesValue: boolean })[];
}

const flagOf = ([flags, what]: [string, string]): Place["flags"][number] => ({
  text: /--[a-z-]+/.exec(flags)?.[0] ?? "",
  what,
  takesValue: flags.includes("<"),
});

const commandWords = (usage: string): string[] => usage.split(" ").filter((word) => /^[a-z]/.test(word));

function places(): Place[] {
  const globals = GLOBAL_OPTIONS.map(flagOf);
  const commands = COMMANDS.map(({ usage, summary, options }) => ({
    words: commandWords(usage),
    summary,
    flags: [...(options ?? []).map(flagOf), ...globals],
  }));
  const groups = GROUPS.map(({ name, summary }) => ({
    path: name,
    summary,
    words: commands
      .filter(({ words }) => words.length > 1 && words[0] === name)
      .map(({ words, summary: what }) => ({ text: words[1] ?? "", what })),
  }));
  const tops: Word[] = [
    ...groups.map(({ path, summary }) => ({ text: path, what: summary })),
    ...commands
      .filter(({ words }) => words.length === 1)
      .map(({ words, summary }) => ({ text: words[0] ?? "", what: summary })),
  ];
  const values: Record<string, Word[]> = {
    completion: SHELLS.map((shell) => ({ text: shell, what: `for ${shell}` })),
    help: [...tops, { text: "exit-codes", what: "what the exit codes mean" }],
  };
  return [
    { path: "", words: tops, flags: globals },
    ...groups.map(({ path, words }) => ({ path, words, flags: globals })),
    ...commands.map(({ words, flags }) => ({
      path: words.join(" "),
      words: values[words.join(" ")] ?? [],
      flags,
    })),
  ];
}

/** The flags whose next word is a value and no command. */
const valueFlags = (all: Place[]): string[] => [
  ...new Set(
    all.flatMap(({ flags }) => flags.filter(({ takesValue }) => takesValue).map(({ text }) => text)),
  ),
];

const wordsOf = ({ words, flags }: Place): string => [...words, ...flags].map(({ text }) => text).join(" ");

const bash = (all: Place[]): string => `# source <(jbackup completion bash)
_jbackup() {
  local path="" word skip="" words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [ -n "$skip" ]; then skip=""; continue; fi
    case "$word" in
      ${valueFlags(all).join("|")}) skip=1 ;;
      -*) ;;
      *) path="\${path:+$path }$word" ;;
    esac
  done
  # after a flag that takes a value the shell completes file names
  if [ -n "$skip" ]; then COMPREPLY=(); return; fi
  case "$path" in
${all.map((place) => `    "${place.path}") words="${wordsOf(place)}" ;;`).join("\n")}
  esac
  COMPREPLY=( $(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}") )
}
complete -o default -F _jbackup jbackup
`;

const zsh = (all: Place[]): string =>
  bash(all).replace(
    /^.*\n/,
    "# source <(jbackup completion zsh)\nautoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n",
  );

const quoted = (text: string): string => `'${text.replace(/[\\']/g, "\\$&")}'`;

const fish = (all: Place[]): string => {
  const lines = all.flatMap(({ path, words, flags }) => {
    const at = `complete -c jbackup -n ${quoted(`__jbackup_at ${quoted(path)}`)}`;
    return [
      ...words.map(({ text, what }) => `${at} -f -a ${text} -d ${quoted(what)}`),
      ...flags.map(
        ({ text, what, takesValue }) =>
          `${at}${takesValue ? " -r" : ""} -l ${text.slice(2)} -d ${quoted(what)}`,
      ),
    ];
  });
  return `# jbackup completion fish | source
function __jbackup_at
  set -l path
  set -l skip
  for word in (commandline -opc)[2..-1]
    if test -n "$skip"
      set skip
      continue
    end
    switch $word
      case ${valueFlags(all).join(" ")}
        set skip 1
      case '-*'
      case '*'
        set -a path $word
    end
  end
  test "$path" = "$argv[1]"
end
${lines.join("\n")}
`;
};

export const completionScript = (shell: Shell): string => ({ bash, zsh, fish })[shell](places());
