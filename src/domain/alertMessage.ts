import type { AlertSeverity, AlertType, DeliveryEvent } from "./backup.js";

/** What a channel tells people about one alert. Never holds a secret: alerts themselves do not. */
export interface AlertMessage {
  event: DeliveryEvent;
  site: string;
  host: string;
  alertId: string;
  type: AlertType | "NOTICE";
  severity: AlertSeverity;
  fingerprint: string;
  message: string;
  hint: string | null;
  backupId: string | null;
  storage: string | null;
  since: string;
  occurrences: number;
  at: string;
}

const RANKS: Record<AlertSeverity, number> = { info: 0, warning: 1, error: 2, critical: 3 };

export const isAtLeast = (severity: AlertSeverity, least: AlertSeverity): boolean =>
  RANKS[severity] >= RANKS[least];

const EVENTS: Record<DeliveryEvent, string> = {
  raised: "",
  reminder: "still: ",
  resolved: "resolved: ",
  test: "test: ",
  notice: "",
};

/** One line: for subjects, chats and telephones. */
export const headlineOf = ({ event, site, severity, message }: AlertMessage): string =>
  `[jbackup ${site}] ${severity.toUpperCase()} ${EVENTS[event]}${message}`;

export const bodyOf = (message: AlertMessage): string =>
  [
    `${EVENTS[message.event]}${message.message}`,
    "",
    ...(message.hint === null || message.event === "resolved" ? [] : [`Try: ${message.hint}`, ""]),
    `site      ${message.site}, told by ${message.host}`,
    `type      ${message.type}, ${message.severity}`,
    ...(message.storage === null ? [] : [`storage   ${message.storage}`]),
    ...(message.backupId === null ? [] : [`backup    ${message.backupId}`]),
    `since     ${message.since}, seen ${message.occurrences} time${message.occurrences === 1 ? "" : "s"}`,
    "",
    ["resolved", "test", "notice"].includes(message.event)
      ? "Nothing is left to do."
      : `jbackup alerts ack ${message.alertId} --note TEXT says that somebody takes care of it.`,
  ].join("\n");
