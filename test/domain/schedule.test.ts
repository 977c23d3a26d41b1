import { spawnSync } from "node:child_process";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { onCalendar } from "../../src/domain/calendar.js";
import { type Cron, nextRun, parseCron } from "../../src/domain/cron.js";
import { crontabLine, hasLines, portableTimes, withLines } from "../../src/domain/crontab.js";
import {
  coveredSince,
  decide,
  ended,
  freshState,
  type JobState,
  jitterMs,
  jobsWithRuns,
  stateAfter,
  timedJobs,
} from "../../src/domain/schedule.js";
import { lastingUnit } from "../../src/domain/units.js";

const cronOf = (text: string): Cron => {
  const parsed = parseCron(text);
  if (!parsed.ok) throw new Error(parsed.problem);
  return parsed.cron;
};
const at = (text: string): Date => new Date(text);
const noJitter = (): number => 0;

/** A daemon that looks every few seconds at a job that ends at once; answers the times at which it began. */
function play(
  text: string,
  start: string,
  moments: { now: string; monotonicMs?: number }[],
  state?: JobState,
) {
  const cron = cronOf(text);
  let current = state ?? freshState(at(start).getTime());
  const begun: string[] = [];
  for (const { now, monotonicMs = 0 } of moments) {
    const decision = decide({ cron, jitter: noJitter }, current, { now: at(now), monotonicMs });
    current = stateAfter(current, decision, at(now));
    if (decision.act !== "run") continue;
    begun.push(`${decision.why} ${decision.slot.toISOString().slice(5, 16)}`);
    current = ended(current, 0, { monotonicMs, pauseMs: 1 }).state;
  }
  return begun;
}

describe("a job of the daemon", () => {
  test("runs at its times, once each", () => {
    const moments = ["01:59:58", "02:00:00", "02:00:02", "02:59:00", "03:00:01"].map((time) => ({
      now: `2026-11-20T${time}Z`,
    }));
    expect(play("0 * * * *", "2026-11-20T01:30:00Z", moments)).toEqual([
      "due 11-20T02:00",
      "due 11-20T03:00",
    ]);
  });

  test("that was missed many times runs once", () => {
    const moments = [{ now: "2026-11-20T17:20:00Z" }, { now: "2026-11-20T17:20:02Z" }];
    expect(play("0 * * * *", "2026-11-18T01:30:00Z", moments)).toEqual(["missed 11-20T17:00"]);
  });

  test("runs once more after the clock was set back behind it, and is not lost after a clock that ran years ahead", () => {
    const moments = [
      { now: "2031-01-01T02:00:00Z" },
      { now: "2026-11-20T01:10:00Z" },
      { now: "2026-11-20T02:00:00Z" },
      { now: "2026-11-20T01:59:40Z" },
      { now: "2026-11-20T02:00:00Z" },
    ];
    // set back by less than a minute, the time that comes again is the same one
    expect(play("0 2 * * *", "2030-12-31T12:00:00Z", moments)).toEqual([
      "due 01-01T02:00",
      "due 11-20T02:00",
    ]);
  });

  test("whose time comes while it runs leaves that time out", () => {
    const cron = cronOf("*/5 * * * *");
    const running = { ...freshState(at("2026-11-20T02:00:00Z").getTime()), isRunning: true, attempt: 1 };
    const moment = { now: at("2026-11-20T02:05:00Z"), monotonicMs: 0 };
    const decision = decide({ cron, jitter: noJitter }, running, moment);
    expect(decision).toEqual({ act: "skip", slot: at("2026-11-20T02:05:00Z") });
    const later = stateAfter(running, decision, moment.now);
    expect(decide({ cron, jitter: noJitter }, { ...later, isRunning: false }, moment)).toEqual({
      act: "wait",
    });
  });

  test("that fails is tried three times more, by a clock that does not jump, then given up until its next time", () => {
    const cron = cronOf("0 2 * * *");
    let state = freshState(at("2026-11-20T01:00:00Z").getTime());
    const log: string[] = [];
    let monotonicMs = 0;
    for (let step = 0; step < 12; step++, monotonicMs += 100_000) {
      // the clock on the wall is set back and forth meanwhile
      const now = at(step % 2 === 0 ? "2026-11-20T02:00:30Z" : "2026-11-20T09:00:00Z");
      const decision = decide({ cron, jitter: noJitter }, state, { now, monotonicMs });
      state = stateAfter(state, decision, now);
      if (decision.act !== "run") continue;
      const end = ended(state, 1, { monotonicMs, pauseMs: 300_000 });
      state = end.state;
      log.push(`${monotonicMs / 1000} ${decision.attempt} ${end.how}`);
    }
    expect(log).toEqual(["0 1 failed", "300 2 failed", "600 3 failed", "900 4 given-up"]);
    const tomorrow = { now: at("2026-11-21T02:00:00Z"), monotonicMs };
    expect(decide({ cron, jitter: noJitter }, state, tomorrow)).toMatchObject({ act: "run", attempt: 1 });
  });

  test.each([2, 4, 12, 13, 14])("is not tried again after exit %i, which waiting does not cure", (code) => {
    const state = { ...freshState(0), isRunning: true, attempt: 1 };
    expect(ended(state, code, { monotonicMs: 0, pauseMs: 1 }).how).toBe("given-up");
  });

  test.each([0, 3, 15])("is done after exit %i: what is missing is told by the job itself", (code) => {
    const state = { ...freshState(0), isRunning: true, attempt: 1 };
    expect(ended(state, code, { monotonicMs: 0, pauseMs: 1 }).how).toBe("succeeded");
  });

  test("that was killed by a signal is tried again", () => {
    const state = { ...freshState(0), isRunning: true, attempt: 1 };
    expect(ended(state, null, { monotonicMs: 0, pauseMs: 1 }).how).toBe("failed");
    expect(ended(state, 137, { monotonicMs: 0, pauseMs: 1 }).how).toBe("failed");
  });

  test("begins within a minute or a tenth of its interval, always the same for the same time", () => {
    const times = ["* * * * *", "*/5 * * * *", "0 2 * * *"].map(cronOf);
    const most = [6_000, 30_000, 60_000];
    for (const [nth, cron] of times.entries())
      for (let day = 1; day < 28; day++) {
        const slot = nextRun(cron, new Date(Date.UTC(2026, 10, day)));
        const ms = jitterMs("shop full", cron, slot);
        expect(ms).toBe(jitterMs("shop full", cron, slot));
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThan(most[nth] as number);
      }
  });

  test("whatever the clock does, no time of its schedule is run twice while the clock only goes on, and none is lost", () => {
    const steps = fc.array(fc.integer({ min: 1, max: 4_000 }), { minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(
        fc.constantFrom("*/7 * * * *", "0 * * * *", "30 2 * * *", "15 3 1 * 1"),
        steps,
        (text, gaps) => {
          const cron = cronOf(text);
          let now = Date.UTC(2026, 10, 20);
          let state = freshState(now);
          for (const seconds of gaps) {
            const before = now;
            now += seconds * 1_000;
            const hasSlot = nextRun(cron, new Date(before)).getTime() <= now;
            const decision = decide({ cron, jitter: noJitter }, state, {
              now: new Date(now),
              monotonicMs: 0,
            });
            state = stateAfter(state, decision, new Date(now));
            expect(decision.act).toBe(hasSlot ? "run" : "wait");
            if (decision.act === "run") state = ended(state, 0, { monotonicMs: 0, pauseMs: 1 }).state;
          }
        },
      ),
    );
  });

  test("has nothing to make up for since its last run; one that began a second early was for the time behind it", () => {
    const cron = cronOf("0 2 * * *");
    const since = (startedAt: string): string => new Date(coveredSince({ startedAt }, 0, cron)).toISOString();
    expect(since("2026-11-20T02:00:03.000Z")).toBe("2026-11-20T02:00:03.000Z");
    expect(since("2026-11-20T01:59:59.000Z")).toBe("2026-11-20T02:00:00.000Z");
    expect(coveredSince(undefined, 77, cron)).toBe(77);
  });
});

test("the jobs of a schedule, the most urgent first; a follower has no times, and a drill no runs", () => {
  const lines = { verify: "0 5 * * *", drill: "0 8 1 * *", full: "0 2 * * *", wal: "follow" };
  expect(timedJobs(lines).map(({ name }) => name)).toEqual(["full", "verify", "drill"]);
  expect(jobsWithRuns(lines).map(({ name }) => name)).toEqual(["full", "verify"]);
});

describe("times for systemd", () => {
  test.each([
    ["0 2 * * *", ["*-*-* 02:00:00 UTC"]],
    ["*/5 * * * *", ["*-*-* *:00/5:00 UTC"]],
    ["0 3 * * 0", ["Sun *-*-* 03:00:00 UTC"]],
    ["15,45 8-18/2 1-7 1-3 *", ["*-01..03-01..07 08,10,12,14,16,18:15,45:00 UTC"]],
    ["0 7 1 * 1", ["*-*-01 07:00:00 UTC", "Mon *-*-* 07:00:00 UTC"]],
    ["0 7 */2 * mon-fri", ["Mon,Tue,Wed,Thu,Fri *-*-01/2 07:00:00 UTC"]],
    ["0 7 1-31 * 1", ["*-*-* 07:00:00 UTC"]],
  ])("%s", (text, lines) => {
    expect(onCalendar(cronOf(text))).toEqual(lines);
  });

  const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0;

  test.skipIf(!hasSystemd)("are, as systemd itself reckons them, those of cron", () => {
    const from = at("2026-11-20T10:07:00Z");
    const texts = [
      "*/5 * * * *",
      "7-59/13 3,4 * * *",
      "0 7 1 * 1",
      "0 0 29 2 *",
      "30 6 */9 */5 1-5",
      "1 1 31 * *",
    ];
    for (const text of texts) {
      const lines = onCalendar(cronOf(text));
      const { stdout } = spawnSync(
        "systemd-analyze",
        [
          "calendar",
          "--iterations=12",
          `--base-time=${from.toISOString().slice(0, 19).replace("T", " ")} UTC`,
          ...lines,
        ],
        { encoding: "utf8", env: { ...process.env, TZ: "UTC", LC_ALL: "C" } },
      );
      const found = [...stdout.matchAll(/(?:Next elapse|Iteration #\d+|Iter\. #\d+): \w+ (\S+) (\S+) UTC/g)];
      const theirs = [...new Set(found.map(([, day, time]) => `${day}T${time}.000Z`))].sort().slice(0, 8);
      const ours: string[] = [];
      for (
        let next = nextRun(cronOf(text), from);
        ours.length < theirs.length;
        next = nextRun(cronOf(text), next)
      )
        ours.push(next.toISOString());
      expect(theirs.length, text).toBeGreaterThan(2);
      expect(theirs, text).toEqual(ours);
    }
  });
});

describe("lines of a crontab", () => {
  const place = {
    site: "shop-prod",
    program: ["/usr/bin/node", "/opt/my tools/jbackup.js"],
    configFile: "/etc/jbackup/100%.yaml",
    home: "/var/lib/jbackup",
    path: "/usr/bin:/bin",
    environmentFile: null,
  };

  test("carry everything that they need, quoted for the shell and for cron", () => {
    expect(crontabLine("0 2 * * *", ["backup", "full"], place)).toBe(
      "0 2 * * * PATH=/usr/bin:/bin JBACKUP_HOME=/var/lib/jbackup /usr/bin/node '/opt/my tools/jbackup.js' backup full --config /etc/jbackup/100\\%.yaml --quiet --no-input > /dev/null",
    );
    expect(crontabLine("0 2 * * *", ["cleanup"], { ...place, environmentFile: "/etc/my 1%.env" })).toContain(
      " --environment-file '/etc/my 1\\%.env' --quiet --no-input > /dev/null",
    );
  });

  test.each(["\n", "\r", "\u0007"])("and units have no way to write %j", (character) => {
    for (const [what, value] of [
      ["home", `/var/lib/a${character}b`],
      ["configFile", `/etc/a${character}b.yaml`],
      ["environmentFile", `/etc/a${character}b.env`],
      ["program", ["/usr/bin/node", `/opt/a${character}b.js`]],
      ["writable", [`/srv/a${character}b`]],
    ] as const) {
      const strange = {
        ...place,
        isSystem: true,
        user: null,
        writable: [],
        needsSharedTmp: false,
        [what]: value,
      };
      const refusal = expect.objectContaining({
        exitCode: 2,
        message: `${JSON.stringify([value].flat().at(-1))} has a control character in it`,
      });
      expect(() => lastingUnit("wal", "t", ["backup"], strange), what).toThrow(refusal);
      expect(() => crontabLine("0 2 * * *", ["cleanup"], strange), what).toThrow(refusal);
    }
  });

  test("refuse the backslashes that crons read in several ways", () => {
    expect(() => crontabLine("0 2 * * *", ["cleanup"], { ...place, home: "/var/a\\%b" })).toThrow(
      "a backslash",
    );
    expect(crontabLine("0 2 * * *", ["cleanup"], { ...place, home: "/var/a\\b's" })).toContain(
      `JBACKUP_HOME='/var/a\\b'\\''s' `,
    );
  });

  test("name the end of a step that not every cron knows without", () => {
    expect(portableTimes(" 3/10  5/2 1,2/9 * mon/2 ")).toBe("3-59/10 5-23/2 1,2-31/9 * mon-6/2");
  });

  const others = fc.array(
    fc.constantFrom(
      "# a remark",
      "MAILTO=ops",
      "",
      "5 4 * * * /bin/x",
      "\tα β  ",
      "# end jbackup shop",
      "x\r",
    ),
    { maxLength: 6 },
  );

  test("leave every other byte as it is, coming and going", () => {
    fc.assert(
      fc.property(others, others, fc.boolean(), (before, behind, isEnded) => {
        const text = [...before, ...behind].join("\n") + (isEnded ? "\n" : "");
        const once = withLines(text, "shop-prod", ["1 * * * * a", "2 * * * * b"]);
        expect(hasLines(once, "shop-prod")).toBe(true);
        expect(withLines(once, "shop-prod", ["1 * * * * a", "2 * * * * b"])).toBe(once);
        // only an end of line that was missing stays
        const gone = withLines(once, "shop-prod", []);
        expect([text, `${text}\n`]).toContain(gone);
        if (isEnded) expect(gone).toBe(text);
        const moved = `${once}9 9 * * * behind\n`;
        expect(withLines(moved, "shop-prod", [])).toBe(`${gone}9 9 * * * behind\n`);
      }),
    );
  });
});
