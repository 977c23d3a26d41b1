import type { SingleBar } from "cli-progress";
import type { Progress } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";
import { type Standing, startPace } from "./pace.js";
import { shortened, widthOf } from "./table.js";
import { bytesText, countText, durationText } from "./text.js";

export interface ProgressView {
  show(state: Progress): void;
  /** Makes room for a line of another kind; the next state is shown again. */
  pause(): void;
  end(): void;
}

/** Work that is over sooner than this shows nothing. */
const QUIET_MS = 2_000;
const LINE_EVERY_MS = 10_000;
const EVENT_EVERY_MS = 1_000;

const amount = (value: number, unit: Progress["unit"]): string =>
  unit === "bytes" ? bytesText(value) : `${countText(Math.round(value))} ${unit}`;

interface Parts {
  amount: string;
  rate?: string;
  left?: string;
  extra?: string;
}

/** What is done, how fast, and how long it will still take. */
function partsOf({ done, total, unit, extra }: Progress, { perSecond, leftMs }: Standing): Parts {
  // the steps of a runbook take as long as they take: what is left of each stands in `extra`
  if (unit === "steps") return { amount: `${done} of ${total} steps`, ...(extra ? { extra } : {}) };
  return {
    amount: total === null ? amount(done, unit) : `${amount(done, unit)} of ${amount(total, unit)}`,
    ...(perSecond > 0 ? { rate: `${amount(perSecond, unit)}/s` } : {}),
    ...(leftMs === null ? {} : { left: `${durationText(leftMs)} left` }),
    ...(extra ? { extra } : {}),
  };
}

const joined = (parts: Partial<Parts>): string => Object.values(parts).join(", ");

/** Without a terminal: a line now and then. */
export function lineProgress(write: (line: string) => void, clock: Clock): ProgressView {
  const pace = startPace(clock);
  let shownMs: number | undefined;
  return {
    show(state) {
      const standing = pace.at(state);
      if (standing.isNew) shownMs = undefined;
      const dueMs = shownMs === undefined ? QUIET_MS : shownMs + LINE_EVERY_MS;
      if (standing.elapsedMs < dueMs) return;
      shownMs = standing.elapsedMs;
      write(`${state.task}: ${joined(partsOf(state, standing))}`);
    },
    pause: () => undefined,
    end: () => pace.end(),
  };
}

/** Under --json: at most one object a second. */
export function jsonProgress(write: (event: object) => void, clock: Clock): ProgressView {
  const pace = startPace(clock);
  let shownMs: number | undefined;
  return {
    show(state) {
      const { isNew, elapsedMs } = pace.at(state);
      if (!isNew && shownMs !== undefined && elapsedMs < shownMs + EVENT_EVERY_MS) return;
      shownMs = elapsedMs;
      write({ event: "progress", ...state });
    },
    pause: () => undefined,
    end: () => pace.end(),
  };
}

/** On a terminal: one line that redraws itself, loaded when there is something to draw. */
export function barProgress(
  stream: NodeJS.WritableStream & { columns?: number },
  clean: (line: string) => string,
  clock: Clock,
): ProgressView {
  const pace = startPace(clock);
  let SingleBarClass: typeof SingleBar | "loading" | undefined;
  let bar: SingleBar | undefined;
  const load = async (): Promise<void> => {
    SingleBarClass = "loading";
    SingleBarClass = (await import("cli-progress")).default.SingleBar;
  };
  const close = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    show(state) {
      const standing = pace.at(state);
      if (standing.isNew) close();
      if (standing.elapsedMs < QUIET_MS) return;
      if (SingleBarClass === undefined) void load();
      if (SingleBarClass === undefined || SingleBarClass === "loading") return;
      const payload = { line: () => clean(barLine(state, standing, (stream.columns || 80) - 1)) };
      if (bar) bar.update(state.done, payload);
      else {
        bar = new SingleBarClass({ stream, format: drawn, clearOnComplete: true, fps: 5 });
        bar.start(state.total ?? 0, state.done, payload);
      }
    },
    pause: close,
    end() {
      pace.end();
      close();
    },
  };
}

const drawn = (_options: unknown, _params: unknown, { line }: { line: () => string }): string => line();

const BAR_PLACES = { least: 8, most: 30 };

/** What goes first when places are few; where a percentage stands, the amount says least. */
const leastFirst = (share: number | null, unit: Progress["unit"]): (keyof Parts)[] =>
  unit === "steps" ? ["amount"] : share === null ? ["extra", "left", "rate"] : ["extra", "amount", "rate"];

/** A line that wraps cannot be redrawn: on a narrow terminal the bar goes, then what matters least, then the task's end. */
export function barLine(state: Progress, standing: Standing, places: number): string {
  const share = state.total === null ? null : Math.max(0, Math.min(1, state.done / Math.max(1, state.total)));
  const percent = share === null ? "" : ` ${Math.floor(share * 100)}%`;
  const parts: Partial<Parts> = partsOf(state, standing);
  const text = (): string => `${percent} ${joined(parts)}`;
  for (const part of leastFirst(share, state.unit)) {
    if (widthOf(state.task) + widthOf(text()) <= places || Object.keys(parts).length === 1) break;
    delete parts[part];
  }
  const task = shortened(state.task, Math.max(1, places - widthOf(text())));
  const room = Math.min(BAR_PLACES.most, places - widthOf(task) - widthOf(text()) - 1);
  const bar = share === null || room < BAR_PLACES.least ? "" : ` ${drawBar(share, room)}`;
  return shortened(`${task}${bar}${text()}`, places);
}

function drawBar(share: number, places: number): string {
  const full = Math.round(share * places);
  return "█".repeat(full) + "░".repeat(places - full);
}
