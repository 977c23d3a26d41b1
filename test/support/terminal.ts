import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { BIN, type TestSite } from "./site.js";

export interface Terminal {
  /** Text is typed as it is; names such as Enter, C-c and Down are keys. */
  press(...keys: string[]): void;
  /** What stands on the screen, once it matches. */
  see(what: RegExp): Promise<string>;
  close(): void;
}

const LIMIT_MS = 60_000;

/** The real command on a real terminal, which tmux provides; a server of its own, so that nobody else's is touched. */
export function openTerminal(site: Pick<TestSite, "environment">, args: string[], columns = 100): Terminal {
  const socket = `jbackup-${randomBytes(6).toString("hex")}`;
  const tmux = (...words: string[]): string =>
    execFileSync("tmux", ["-L", socket, ...words], { encoding: "utf8" });
  const environment = Object.entries({ ...site.environment, TERM: "screen" }).flatMap(([name, value]) =>
    value === undefined ? [] : ["-e", `${name}=${value}`],
  );
  // Ctrl-C goes to the shell as well, which must stay to tell how it ended
  const command = `trap : INT; '${process.execPath}' '${BIN}' ${args.join(" ")}; echo "ended with $?"; sleep 600`;
  tmux(
    "-f",
    "/dev/null",
    "new-session",
    "-d",
    "-x",
    String(columns),
    "-y",
    "50",
    ...environment,
    "sh",
    "-c",
    command,
  );
  return {
    press: (...keys) => void tmux("send-keys", ...keys),
    async see(what) {
      let screen = "";
      for (let waited = 0; waited < LIMIT_MS; waited += 100) {
        screen = tmux("capture-pane", "-p", "-J");
        if (what.test(screen)) return screen;
        await delay(100);
      }
      throw new Error(`the screen never showed ${what}:\n${screen}`);
    },
    close: () => void tmux("kill-server"),
  };
}
