import type { SingleBar } from "cli-progress";
import type { Progress } from "../engine/site.js";
import type { Clock } from "../sys/clock.js";
import { bytesText, countText, durationText } from "./text.js";

export interface ProgressView {
  show(state: Progress): void;
  end(): void;
}

/** Work that is over sooner than this shows nothing. */
const QUIET_MS = 2_000;
const LINE_EVERY_MS = 10_000;

const amount = (value: number, unit: Progress["unit"]): string =>
  unit === "bytes" ? bytesText(value) : `${countText(value)} ${unit}`;

/** What is done, how fast, and how long it will still take. */
export function progressText(state: Progress, elapsedMs: number): string {
  const rate = elapsedMs > 0 ? (state.done / elapsedMs) * 1_000 : 0;
  const parts = [
    state.total === null
      ? amount(state.done, state.unit)
      : `${amount(state.done, state.unit)} of ${amount(state.total, state.unit)}`,
  ];
  if (rate > 0) parts.push(`${amount(Math.round(rate), state.unit)}/s`);
  if (rate > 0 && state.total !== null && state.total > state.done)
    parts.push(`${durationText(((state.total - state.done) / rate) * 1_000)} left`);
  if (state.extra) parts.push(state.extra);
  return parts.join(", ");
}

/** Remembers when the present task began, and forgets it when another one does. */
class Pace {
  task = "";
  startedMs = 0;
  shownMs = 0;

  begin(task: string, nowMs: number): void {
    if (task === this.task) return;
    this.task = task;
    this.startedMs = nowMs;
    this.shownMs = 0;
  }
}

/** Without a terminal: a line now and then. */
export function lineProgress(write: (line: string) => void, clock: Clock): ProgressView {
  const pace = new Pace();
  return {
    show(state) {
      const now = clock.monotonicMs();
      pace.begin(state.task, now);
      const since = now - (pace.shownMs === 0 ? pace.startedMs : pace.shownMs);
      if (since < (pace.shownMs === 0 ? QUIET_MS : LINE_EVERY_MS)) return;
      pace.shownMs = now;
      write(`${state.task}: ${progressText(state, now - pace.startedMs)}`);
    },
    end() {
      pace.task = "";
    },
  };
}

/** Under --json: one object a line, at most one a second. */
export function jsonProgress(write: (line: string) => void, clock: Clock): ProgressView {
  const pace = new Pace();
  return {
    show(state) {
      const now = clock.monotonicMs();
      pace.begin(state.task, now);
      if (pace.shownMs !== 0 && now - pace.shownMs < 1_000) return;
      pace.shownMs = now;
      write(JSON.stringify({ event: "progress", ...state }));
    },
    end() {
      pace.task = "";
    },
  };
}

/** On a terminal: one line that redraws itself, loaded when there is something to draw. */
export function barProgress(stream: NodeJS.WriteStream, clock: Clock): ProgressView {
  const pace = new Pace();
  let bar: SingleBar | undefined;
  let loading = false;
  const start = async (state: Progress): Promise<void> => {
    loading = true;
    const { default: cliProgress } = await import("cli-progress");
    loading = false;
    if (pace.task !== state.task) return;
    bar = new cliProgress.SingleBar(
      {
        stream,
        format: lineFor(stream),
        clearOnComplete: true,
        hideCursor: false,
        fps: 5,
        etaBuffer: 20,
        gracefulExit: false,
      },
      cliProgress.Presets.shades_classic,
    );
    bar.start(state.total ?? state.done, state.done, { task: state.task, text: "" });
  };
  const close = (): void => {
    bar?.stop();
    bar = undefined;
  };
  return {
    show(state) {
      const now = clock.monotonicMs();
      if (state.task !== pace.task) close();
      pace.begin(state.task, now);
      if (now - pace.startedMs < QUIET_MS) return;
      if (bar) {
        bar.setTotal(Math.max(1, state.total ?? state.done));
        bar.update(state.done, { task: state.task, text: progressText(state, now - pace.startedMs) });
      } else if (!loading) void start(state);
    },
    end() {
      pace.task = "";
      close();
    },
  };
}

/** A narrow terminal gets no bar: a line that wraps cannot be redrawn. */
function lineFor(
  stream: NodeJS.WriteStream,
): (options: unknown, params: { progress: number }, payload: { task: string; text: string }) => string {
  return (_options, { progress }, { task, text }) => {
    const places = (stream.columns ?? 80) - 1;
    const width = Math.min(30, places - task.length - text.length - 6);
    const share = Math.max(0, Math.min(1, progress));
    const bar =
      width >= 8
        ? ` ${"█".repeat(Math.round(share * width))}${"░".repeat(width - Math.round(share * width))}`
        : "";
    return `${task}${bar} ${Math.floor(share * 100)}% ${text}`.slice(0, places);
  };
}
