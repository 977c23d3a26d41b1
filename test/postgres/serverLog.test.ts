import { describe, expect, it } from "vitest";
import { hintFor, lastWords } from "../../src/postgres/serverLog.js";

const log = [
  "2026-11-26 04:50:10 UTC [17] LOG:  starting PostgreSQL 15.8 on x86_64-pc-linux-gnu",
  "2026-11-26 04:50:10 UTC [21] FATAL:  the database system is starting up",
  "2026-11-26 04:50:10 UTC [20] FATAL:  requested timeline 2 is not a child of this server's history",
  "2026-11-26 04:50:10 UTC [20] DETAIL:  Latest checkpoint is at 0/5000060 on timeline 1, but in the history of the requested timeline, the server forked off from that timeline at 0/40001C8.",
  "2026-11-26 04:50:10 UTC [17] LOG:  startup process (PID 20) exited with exit code 1",
  "2026-11-26 04:50:10 UTC [17] LOG:  aborting startup due to startup process failure",
  "2026-11-26 04:50:10 UTC [22] FATAL:  the database system is shutting down",
  "2026-11-26 04:50:10 UTC [17] LOG:  database system is shut down",
  "",
].join("\n");

describe("why a server ended", () => {
  it("is its last grave message with what explains it, not what it told those who came meanwhile", () => {
    const words = lastWords(log);
    expect(words).toMatch(
      /FATAL: {2}requested timeline 2 is not a child of this server's history; .*DETAIL: .*0\/40001C8\.$/,
    );
    expect(hintFor(words)).toContain("jbackup wal status");
  });

  it("is its last lines where nothing grave was said", () => {
    expect(lastWords("one\ntwo\nthree\nfour\nfive\n")).toBe("two; three; four; five");
    expect(lastWords("")).toBe("");
    expect(hintFor(lastWords(""))).toBeNull();
  });

  it.each([
    ["x FATAL:  could not map anonymous shared memory: Cannot allocate memory", "make room"],
    ["x PANIC:  could not locate a valid checkpoint record", "another backup"],
  ])("%s has a hint that fits", (words, hint) => {
    expect(hintFor(lastWords(words))).toContain(hint);
  });
});
