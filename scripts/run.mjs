// The one entry behind `npm run setup | demo | check` and `npm test`.
// Runs on a fresh clone with nothing but Node 18 and npm, hence core modules only.
import { join } from "node:path";
import { installDependencies } from "./dependencies.mjs";
import { chooseNode } from "./node.mjs";
import { requirePrograms } from "./programs.mjs";
import { endLike, exec, root, run, setOutput, stage, stageFailed } from "./stage.mjs";
import { totalLine, vitest } from "./vitest.mjs";

const [command = "", ...given] = process.argv.slice(2);
const args = given[0] === "--" ? given.slice(1) : given;

const tool = (path) => join(root, "node_modules", path);

const build = (node, projects, title) => stage(title, node, [tool("typescript/bin/tsc"), "-b", ...projects]);

async function prepare() {
  await installDependencies();
  return chooseNode();
}

async function check(node) {
  await stage("format and lint", node, [tool("@biomejs/biome/bin/biome"), "check", "."]);
  await build(node, [], "types");
  return vitest(node, ["unit"], "architecture and unit tests", args);
}

const commands = {
  async setup() {
    await build(await prepare(), ["migrations", "src"], "build");
  },

  async demo() {
    // the demo's own answer is the only thing on stdout
    setOutput(process.stderr);
    const node = await prepare();
    await build(node, ["migrations", "src"], "build");
    await requirePrograms("demo");
    endLike(await run(node, [join(root, "bin", "jbackup.js"), "demo", ...args], exec.inherit));
  },

  async check() {
    const counts = await check(await prepare());
    if (counts.code !== 0) throw stageFailed(counts);
  },

  async test() {
    const runs = [];
    try {
      const node = await prepare();
      await requirePrograms("test");
      const unit = await check(node);
      runs.push(unit);
      // one failing unit test is no reason to learn nothing about the rest; Ctrl-C is
      const wasStopped = unit.signal !== null || unit.code >= 128;
      if (!wasStopped) runs.push(await vitest(node, ["real", "alone"], "tests with real servers", args));
      const failed = runs.find((one) => one.code !== 0);
      if (failed) throw stageFailed(failed);
      if (runs.every((one) => one.passed + one.failed === 0)) throw stageFailed({ code: 1 });
    } finally {
      console.log(`\n${totalLine(runs)}`);
    }
  },
};

if (!Object.hasOwn(commands, command)) {
  console.error(`usage: node scripts/run.mjs ${Object.keys(commands).join(" | ")}`);
  process.exit(2);
}
try {
  await commands[command]();
} catch (error) {
  if (!error.ended) throw error;
  endLike(error.ended);
}
