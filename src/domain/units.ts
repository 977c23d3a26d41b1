import { onCalendar } from "./calendar.js";
import { type Cron, nextRun } from "./cron.js";
import { type RunPlace, refuseControlCharacters } from "./crontab.js";

export interface UnitPlace extends RunPlace {
  /** A service of the whole system, or of one user, who may not wall anything off. */
  isSystem: boolean;
  /** Who runs them, where it is not root. */
  user: string | null;
  /** What jobs write to. */
  writable: readonly string[];
  /** The server's socket or a storage is below /tmp, which a service of its own /tmp would not see. */
  needsSharedTmp: boolean;
}

export interface Unit {
  name: string;
  text: string;
}

export const madeBy = (site: string): string => `# made by jbackup schedule install for the site ${site}`;
export const unitName = (site: string, job: string): string => `jbackup-${site}-${job}`;

/** In units, % begins a specifier, and $ a variable. */
const quoted = (word: string): string => {
  const safe = word.replaceAll("%", "%%").replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return /^[\w./:@%+=,-]+$/.test(word) ? safe : `"${safe}"`;
};
const inCommand = (word: string): string => quoted(word).replaceAll("$", "$$$$");

const HOUR_MS = 3_600_000;

/** A job with times: a service that runs it, and a timer that starts the service. */
export function timedUnits(
  { name, cron }: { name: string; cron: Cron },
  title: string,
  words: readonly string[],
  place: UnitPlace,
): Unit[] {
  const from = new Date(0);
  const second = nextRun(cron, nextRun(cron, from));
  const intervalMs = second.getTime() - nextRun(cron, from).getTime();
  const unit = unitName(place.site, name);
  return [
    { name: `${unit}.service`, text: serviceText(title, words, place, intervalMs > HOUR_MS ? RETRIED : []) },
    {
      name: `${unit}.timer`,
      text: [
        madeBy(place.site),
        "[Unit]",
        `Description=jbackup ${place.site}: when to run: ${title}`,
        "",
        "[Timer]",
        ...onCalendar(cron).map((line) => `OnCalendar=${line}`),
        "# what was missed while the machine was off is made up for",
        "Persistent=true",
        `RandomizedDelaySec=${Math.floor(Math.min(60_000, intervalMs / 10) / 1000)}`,
        "AccuracySec=1s",
        "",
        "[Install]",
        "WantedBy=timers.target",
        "",
      ].join("\n"),
    },
  ];
}

/** A failure of the moment is tried again, three times, five minutes apart; what waiting cannot help is not. */
const RETRIED = ["Restart=on-failure", "RestartSec=5min", "RestartPreventExitStatus=2 3 4 10 12 13 14 15"];
const RETRY_LIMIT = ["StartLimitIntervalSec=1h", "StartLimitBurst=4"];

/** What runs all the time: begun again whenever it ends. */
export const lastingUnit = (
  name: string,
  title: string,
  words: readonly string[],
  place: UnitPlace,
): Unit => ({
  name: `${unitName(place.site, name)}.service`,
  text: [
    ...serviceText(title, words, place, ["Restart=always", "RestartSec=5s"], "exec").trimEnd().split("\n"),
    "",
    "[Install]",
    `WantedBy=${place.isSystem ? "multi-user.target" : "default.target"}`,
    "",
  ].join("\n"),
});

/** It ends in good order and is begun again, with the configuration as it is by then. */
const RELOAD = ["ExecReload=/bin/kill -HUP $MAINPID"];

function serviceText(
  title: string,
  words: readonly string[],
  place: UnitPlace,
  restart: readonly string[],
  type = "oneshot",
): string {
  refuseControlCharacters(place);
  const { site, program, configFile, home, path, environmentFile, user } = place;
  const command = [...program, ...words, "--config", configFile, "--no-input"].map(inCommand).join(" ");
  return [
    madeBy(site),
    "[Unit]",
    `Description=jbackup ${site}: ${title}`,
    ...(place.isSystem
      ? ["Wants=network-online.target", "After=network-online.target postgresql.service"]
      : []),
    ...(restart === RETRIED ? RETRY_LIMIT : type === "exec" ? ["StartLimitIntervalSec=0"] : []),
    "",
    "[Service]",
    `Type=${type}`,
    `ExecStart=${command}`,
    ...(type === "exec" ? RELOAD : []),
    ...(user === null ? [] : [`User=${user}`]),
    `Environment=${quoted(`PATH=${path}`)} ${quoted(`JBACKUP_HOME=${home}`)}`,
    ...(environmentFile === null ? [] : [`EnvironmentFile=-${environmentFile.replaceAll("%", "%%")}`]),
    ...restart,
    "# ended by a signal to jbackup itself, which ends its programs and cleans up",
    "KillMode=mixed",
    "TimeoutStopSec=30s",
    "SuccessExitStatus=143",
    "",
    ...(place.isSystem ? walls(place) : USER_WALLS),
    "",
  ].join("\n");
}

const USER_WALLS = [
  "NoNewPrivileges=true",
  "UMask=0077",
  "LockPersonality=true",
  "RestrictRealtime=true",
  "SystemCallArchitectures=native",
];

/** Reads what it must, writes where backups and records go, and nothing else. V8 makes code as it runs, so memory may be made executable. */
const walls = ({ writable, needsSharedTmp }: UnitPlace): string[] => [
  ...USER_WALLS,
  "ProtectSystem=strict",
  `ReadWritePaths=${[...writable, ...(needsSharedTmp ? ["/tmp", "/var/tmp"] : [])].map((path) => quoted(`-${path}`)).join(" ")}`,
  "ProtectHome=read-only",
  ...(needsSharedTmp
    ? ["# the server's socket, or a place of this site, is below /tmp", "PrivateTmp=false"]
    : ["PrivateTmp=true"]),
  "PrivateDevices=true",
  "ProtectKernelTunables=true",
  "ProtectKernelModules=true",
  "ProtectKernelLogs=true",
  "ProtectControlGroups=true",
  "ProtectClock=true",
  "ProtectHostname=true",
  "RestrictNamespaces=true",
  "RestrictSUIDSGID=true",
  "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
  "# as root: reads every file, and starts servers as their own users",
  "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID",
  "SystemCallFilter=@system-service",
  "SystemCallErrorNumber=EPERM",
];
