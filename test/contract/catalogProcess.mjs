// Runs the sources as they are, in a process of their own: catalogProcess.mjs URL write|loaded WHO COUNT START_MS
// catalogProcess.mjs URL journal|replay DIRECTORY
import { existsSync, writeSync } from "node:fs";
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";

const loaded = [];
registerHooks({
  load(url, context, next) {
    loaded.push(url);
    return next(url, context);
  },
  resolve(specifier, context, next) {
    if (specifier === "#migrations")
      return next(new URL("../../migrations/index.ts", import.meta.url).href, context);
    if (/^\.{1,2}\/.*\.js$/.test(specifier) && context.parentURL?.endsWith(".ts")) {
      const source = new URL(specifier.replace(/\.js$/, ".ts"), context.parentURL);
      if (existsSync(fileURLToPath(source))) return next(source.href, context);
    }
    return next(specifier, context);
  },
});

const { openCatalog, withJournal } = await import("../../src/catalog/catalogs.ts");
const { systemClock } = await import("../../src/sys/clock.ts");
const { backupNumber } = await import("./catalogRecords.ts");
const [url, task, who, count, startMs] = process.argv.slice(2);

const open = () => openCatalog(url, { clock: systemClock });
const journaled = (opening) => withJournal(opening, who, { clock: systemClock, location: url });

if (task === "journal") {
  const { JBackupError } = await import("../../src/domain/errors.ts");
  const down = journaled(() => Promise.reject(new JBackupError("catalog_unavailable", "down")));
  for (let turn = 0; ; turn++) {
    await down.saveBackups([backupNumber(turn)]);
    writeSync(1, `${turn}\n`);
  }
}

if (startMs) {
  // everything is loaded first, so that all processes knock at the same millisecond
  await (await openCatalog("sqlite::memory:", { clock: systemClock })).close();
  while (Date.now() < Number(startMs));
}
const catalog = task === "replay" ? journaled(open) : await open();
if (task === "replay") {
  writeSync(1, "begun\n");
  await catalog.backups({ limit: 1 });
}
if (task === "write") {
  for (let turn = 0; turn < Number(count); turn++) {
    const own = backupNumber(Number(who) * 1_000 + turn);
    const shared = [999_998, 999_999].map((number) => {
      const backup = backupNumber(number, { note: `${who}/${turn}` });
      return { ...backup, copies: backup.copies.map((copy) => ({ ...copy, path: `${who}/${turn}` })) };
    });
    // in both orders, as two writers that lock the same rows in different orders would block each other
    await catalog.saveBackups(Number(who) % 2 === 0 ? [own, ...shared] : [...shared.reverse(), own]);
    await catalog.appendAudit({
      id: `${who}-${turn}`,
      at: own.createdAt,
      actor: who,
      action: "write",
      subject: own.id,
      detail: { turn },
    });
  }
}
await catalog.close();
if (task === "loaded") console.log(loaded.join("\n"));
