import type { AlertSeverity } from "../domain/backup.js";
import type { Metric } from "../domain/metrics.js";
import { openHole } from "../domain/walWindow.js";
import type { SiteStatus } from "./status.js";

type Samples = { labels?: Record<string, string>; value: number | boolean | null }[];

const SEVERITIES: AlertSeverity[] = ["info", "warning", "error", "critical"];
const seconds = (at: string | null): number | null => (at === null ? null : Date.parse(at) / 1_000);
const spanOf = (ms: number | null): number | null => (ms === null ? null : ms / 1_000);

/** Everything that a status tells in numbers. What is not known has no sample: a zero would be a lie. */
export function metricsOf(status: SiteStatus, version: string): Metric[] {
  const { site, health, jobs, storages, window, rpo, rto, alerts } = status;
  const gauge = (name: string, help: string, samples: Samples): Metric => ({
    name: `jbackup_${name}`,
    help,
    type: "gauge",
    samples: samples.flatMap(({ labels = {}, value }) =>
      value === null ? [] : [{ labels: { site, ...labels }, value: Number(value) }],
    ),
  });
  const one = (name: string, help: string, value: number | boolean | null): Metric =>
    gauge(name, help, [{ value }]);
  // not "job": that label is Prometheus's own
  const ofJobs = (
    name: string,
    help: string,
    numberOf: (job: SiteStatus["jobs"][number]) => Samples[0]["value"],
  ) =>
    gauge(
      name,
      help,
      jobs.map((job) => ({ labels: { name: job.name }, value: numberOf(job) })),
    );
  const ofStorages = (
    name: string,
    help: string,
    numberOf: (storage: SiteStatus["storages"][number]) => Samples[0]["value"],
  ) =>
    gauge(
      name,
      help,
      storages.map((storage) => ({ labels: { storage: storage.name }, value: numberOf(storage) })),
    );
  return [
    gauge("info", "The version of jbackup that wrote this.", [{ labels: { version }, value: 1 }]),
    one("metrics_timestamp_seconds", "When this was written.", seconds(status.at)),
    one("catalog_up", "Whether the catalog could be read.", status.catalog.error === null),
    one("postgres_up", "Whether PostgreSQL could be asked.", status.postgres.error === null),
    one("health_score", "0 to 100: what jbackup status makes of it all.", health.score),
    gauge(
      "health_state",
      "1 for the state the site is in: ok, warning or critical.",
      (["ok", "warning", "critical"] as const).map((state) => ({
        labels: { state },
        value: health.state === state,
      })),
    ),
    one(
      "last_full_timestamp_seconds",
      "When the newest usable full backup began.",
      seconds(status.lastFull?.at ?? null),
    ),
    one(
      "last_full_stored_bytes",
      "What the newest usable full backup takes in a storage.",
      status.lastFull?.storedBytes ?? null,
    ),
    ofJobs("job_last_success_timestamp_seconds", "When a job last came to a good end.", ({ lastGoodAt }) =>
      seconds(lastGoodAt),
    ),
    ofJobs("job_last_run_failed", "Whether the last run of a job failed.", ({ lastRun }) =>
      lastRun === null ? null : lastRun.status === "failed" || lastRun.status === "interrupted",
    ),
    ofJobs("job_running", "Whether a job runs now.", ({ lastRun }) => lastRun?.status === "running"),
    ofJobs("job_next_timestamp_seconds", "When a job runs next, by the schedule.", ({ nextAt }) =>
      seconds(nextAt),
    ),
    // drills are due without a schedule, too
    ofJobs("job_missed", "Whether a job should have run and did not.", ({ schedule, nextAt, missedAt }) =>
      schedule === null && nextAt === null ? null : missedAt !== null,
    ),
    ofStorages("storage_up", "Whether a storage could be read.", ({ reachable }) => reachable),
    gauge(
      "storage_copies",
      "Copies of backups in a storage, by what is known of them.",
      storages.flatMap(({ name, copies }) =>
        Object.entries(copies).map(([status, value]) => ({ labels: { storage: name, status }, value })),
      ),
    ),
    ofStorages("storage_used_bytes", "What backups and WAL take in a storage.", ({ usedBytes }) => usedBytes),
    ofStorages(
      "storage_capacity_bytes",
      "What a storage can take, where that is known.",
      ({ capacityBytes }) => capacityBytes,
    ),
    ofStorages(
      "storage_free_bytes",
      "What is free in a storage, where that is known.",
      ({ freeBytes }) => freeBytes,
    ),
    ofStorages(
      "storage_growth_bytes_per_day",
      "How a storage grows, by its last 30 days.",
      ({ growthBytesPerDay }) => growthBytesPerDay,
    ),
    ofStorages(
      "storage_days_until_full",
      "Days until a storage is full, as it grows now.",
      ({ daysUntilFull }) => daysUntilFull,
    ),
    ofStorages(
      "storage_last_full_timestamp_seconds",
      "When the newest full backup in a storage began.",
      ({ lastFullAt }) => seconds(lastFullAt),
    ),
    ofStorages(
      "storage_verified_timestamp_seconds",
      "When something in a storage was last verified.",
      ({ verifiedAt }) => seconds(verifiedAt),
    ),
    one("test_restore_timestamp_seconds", "When a restore was last tested.", seconds(status.testRestoredAt)),
    one(
      "window_start_timestamp_seconds",
      "The earliest moment that can be reached without a gap.",
      seconds(window?.from.at ?? null),
    ),
    one(
      "window_end_timestamp_seconds",
      "The latest moment that can be reached.",
      seconds(window?.to.at ?? null),
    ),
    one(
      "window_holes",
      "1 while WAL is missing behind the newest base: moments behind cannot be reached.",
      window === null ? null : openHole(window.bases) !== null,
    ),
    one("rpo_seconds", "How much would be lost now.", spanOf(rpo.nowMs)),
    one("rpo_objective_seconds", "How much may be lost.", spanOf(rpo.objectiveMs)),
    one("rto_seconds", "How long the last recovery took.", spanOf(rto.lastMs)),
    one("rto_objective_seconds", "How long a recovery may take.", spanOf(rto.objectiveMs)),
    gauge(
      "alerts_open",
      "Alerts that are not resolved.",
      SEVERITIES.map((severity) => ({
        labels: { severity },
        value: alerts.filter((alert) => alert.severity === severity).length,
      })),
    ),
  ];
}
