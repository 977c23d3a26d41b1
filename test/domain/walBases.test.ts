import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { RecoveryTarget } from "../../src/domain/recoveryTarget.js";
import {
  historyName,
  lsnText,
  parseWalFile,
  segmentName,
  type TimelineSwitch,
  type WalFile,
} from "../../src/domain/wal.js";
import { baseFor, leadsEverywhere } from "../../src/domain/walBases.js";
import { pathFrom, type StoredWal, type WalInventory } from "../../src/domain/walCoverage.js";
import { openHole, reachedFrom, type WindowBase } from "../../src/domain/walWindow.js";

const BYTES = 2 ** 20;
const lsn = (segment: number, offset = 0): bigint => BigInt(segment) * BigInt(BYTES) + BigInt(offset);
const BEGIN = Date.parse("2026-11-20T00:00:00Z");
const minute = (nth: number): Date => new Date(BEGIN + nth * 60_000);

/** WAL is archived, a full backup is made, or a recovery to an earlier point takes over. */
type Step = { kind: "wal" } | { kind: "full" } | { kind: "takeOver"; where: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.constant<Step>({ kind: "wal" }) },
  { weight: 2, arbitrary: fc.constant<Step>({ kind: "full" }) },
  { weight: 2, arbitrary: fc.nat(1000).map((where): Step => ({ kind: "takeOver", where })) },
);

/** What a server did, one step a minute, and which timeline was in force in each. */
class Past {
  readonly stored: StoredWal[] = [];
  readonly histories = new Map<number, TimelineSwitch[]>();
  /** Newest first. */
  readonly bases: WindowBase[] = [];
  readonly inForce: number[] = [];
  /** When the last of each timeline was stored. */
  readonly lastStored = new Map<number, number>();
  timeline = 1;
  private newest = 1;
  private segment = 3;
  private minute = 0;

  constructor(steps: Step[]) {
    this.take({ kind: "full" });
    for (const one of steps) this.take(one);
  }

  get inventory(): WalInventory {
    return { segmentBytes: BYTES, stored: this.stored, histories: this.histories };
  }

  /** Whether a recovery from the base comes along the timeline. */
  leads(base: WindowBase, timeline: number): boolean {
    const left = (this.histories.get(timeline) ?? []).find((one) => one.timeline === base.timeline);
    return base.timeline === timeline || (left !== undefined && left.at >= base.endLsn);
  }

  private take(one: Step): void {
    this.minute++;
    if (one.kind === "takeOver") this.takeOver(one.where);
    else {
      if (one.kind === "full") this.back();
      this.store(segmentName({ timeline: this.timeline, number: BigInt(this.segment++) }, BYTES));
    }
    this.inForce[this.minute] = this.timeline;
  }

  private back(): void {
    this.bases.unshift({
      id: `base ${this.minute}`,
      label: `base ${this.minute}`,
      endTime: minute(this.minute).toISOString(),
      timeline: this.timeline,
      startLsn: lsn(this.segment, 40),
      endLsn: lsn(this.segment, 400),
      endsSegment: true,
    });
  }

  private takeOver(where: number): void {
    const segment = 3 + (where % (this.segment - 3));
    const at = lsn(segment, 500);
    const switches = this.histories.get(this.timeline) ?? [];
    const nth = switches.findIndex((one) => one.at >= at);
    const kept = nth < 0 ? switches : switches.slice(0, nth);
    const parent = nth < 0 ? this.timeline : (switches[nth] as TimelineSwitch).timeline;
    this.timeline = ++this.newest;
    this.histories.set(this.timeline, [...kept, { timeline: parent, at }]);
    this.store(historyName(this.timeline));
    this.store(segmentName({ timeline: this.timeline, number: BigInt(segment) }, BYTES));
    this.segment = segment + 1;
  }

  private store(name: string): void {
    this.stored.push({ file: parseWalFile(name) as WalFile, modifiedAt: minute(this.minute) });
    this.lastStored.set(this.timeline, this.minute);
  }
}

const steps = fc.array(step, { maxLength: 40 });
const LATEST: RecoveryTarget = { kind: "latest" };

describe("of any past with recoveries that took over", () => {
  test("the latest moment is reached from the newest base that leads to the newest timeline, and the window says the same", () => {
    fc.assert(
      fc.property(steps, (taken) => {
        const past = new Past(taken);
        const wanted = past.bases.filter((base) => past.leads(base, past.timeline));
        const chosen = baseFor(past.inventory, past.bases, LATEST);
        expect(chosen?.id).toBe(wanted[0]?.id);
        const path = pathFrom(past.inventory, chosen as WindowBase);
        expect(path.timelines.at(-1)).toBe(past.timeline);
        const { bases, window } = reachedFrom(past.inventory, past.bases);
        expect(openHole(bases)).toBeNull();
        expect(window?.from.at).toBe(wanted.at(-1)?.endTime);
        expect(window?.to).toEqual({ at: path.until?.toISOString(), lsn: lsnText(path.endLsn) });
      }),
    );
  });

  test("a moment is reached from the newest base before it on the way of the timeline that was in force then", () => {
    fc.assert(
      fc.property(steps, fc.nat(1000), (taken, which) => {
        const past = new Past(taken);
        const then = 1 + (which % (past.inForce.length - 1));
        const timeline = past.inForce[then] as number;
        // behind the last of a timeline nothing is stored until the next one begins
        fc.pre((past.lastStored.get(timeline) as number) > then);
        const at = new Date(minute(then).getTime() + 30_000);
        const ended = past.bases.filter(({ endTime }) => Date.parse(endTime) <= at.getTime());
        const wanted = ended.find((base) => past.leads(base, timeline));
        const chosen = baseFor(past.inventory, ended, { kind: "time", at, text: at.toISOString() });
        expect(chosen?.id).toBe(wanted?.id);
      }),
    );
  });

  test("older bases need not be looked at behind one that leads everywhere", () => {
    fc.assert(
      fc.property(steps, (taken) => {
        const past = new Past(taken);
        const enough = past.bases.findIndex((base) => leadsEverywhere(past.inventory, base));
        const some = past.bases.slice(0, enough < 0 ? past.bases.length : enough + 1);
        expect(baseFor(past.inventory, some, LATEST)?.id).toBe(
          baseFor(past.inventory, past.bases, LATEST)?.id,
        );
      }),
    );
  });

  test("without a base there is none", () => {
    expect(baseFor(new Past([]).inventory, [], LATEST)).toBeNull();
  });
});
