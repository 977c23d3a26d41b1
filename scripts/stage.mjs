import { spawn } from "node:child_process";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** How a child's output is treated: kept until it fails, or passed straight through. */
export const exec = { capture: "pipe", inherit: "inherit" };

let output = process.stdout;
export const setOutput = (stream) => {
  output = stream;
};
export const say = (line) => output.write(`${line}\n`);

/** An error that carries how the process should end; whatever there was to say is already said. */
export const stageFailed = ({ code = 1, signal = null }) =>
  Object.assign(new Error("a stage failed"), { ended: { code, signal } });

export const stop = (message, code) => {
  console.error(message);
  return stageFailed({ code });
};

/** Children must find the chosen Node first, whatever the machine has. */
export const childEnv = (program) => ({
  ...process.env,
  PATH: [dirname(program), join(root, "node_modules", ".bin"), process.env.PATH].join(":"),
});

/** Runs a program and resolves to { code, signal, output }; never rejects for a failing child. */
export function run(program, args, stdio, env = childEnv(program)) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: root,
      env,
      stdio: stdio === exec.inherit ? "inherit" : ["ignore", "pipe", "pipe"],
    });
    const chunks = [];
    child.stdout?.on("data", (chunk) => chunks.push(chunk));
    child.stderr?.on("data", (chunk) => chunks.push(chunk));
    const release = passSignalsTo(child);
    const end = (result) => {
      release();
      resolve({ ...result, output: Buffer.concat(chunks).toString() });
    };
    child.on("error", (error) => {
      chunks.push(Buffer.from(`${error.message}\n`));
      end({ code: 127, signal: null });
    });
    child.on("close", (code, signal) => end({ code, signal }));
  });
}

function passSignalsTo(child) {
  const handlers = {
    // Ctrl-C reaches the whole foreground group; a second copy would read as "stop at once"
    SIGINT: () => process.stdin.isTTY || child.kill("SIGINT"),
    SIGTERM: () => child.kill("SIGTERM"),
    SIGHUP: () => child.kill("SIGHUP"),
  };
  for (const [name, handler] of Object.entries(handlers)) process.on(name, handler);
  return () => {
    for (const [name, handler] of Object.entries(handlers)) process.off(name, handler);
  };
}

/** Ends this process the way its child ended. */
export function endLike({ code, signal }) {
  if (!signal) process.exit(code ?? 1);
  process.exitCode = 128 + constants.signals[signal];
  process.kill(process.pid, signal);
}

const seconds = (startedAt) => `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;

export const report = (name, ok, startedAt, note = "") =>
  say(
    `${ok ? "ok    " : "FAILED"} ${name.padEnd(30)} ${seconds(startedAt).padStart(8)}${note && `   ${note}`}`,
  );

/** One step: a line when it is done, its whole output when it fails. */
export async function stage(name, program, args, env) {
  const startedAt = Date.now();
  const result = await run(program, args, exec.capture, env);
  const ok = result.code === 0;
  if (!ok) say(result.output.trimEnd());
  report(name, ok, startedAt);
  if (!ok) throw stageFailed(result);
}
