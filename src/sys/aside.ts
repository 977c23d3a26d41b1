import { spawn } from "node:child_process";

/** Starts this program once more with other words. It is on its own: it lives on when this process ends, and nobody hears from it. */
export function startAside(args: string[]): void {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? "", ...args], {
    detached: true,
    stdio: "ignore",
    cwd: process.cwd(),
  });
  child.on("error", () => undefined); // whoever starts it does without it as well
  child.unref();
}
