import { isBroken, type WalStatus, walStatus } from "../../engine/wal/status.js";
import { type CommandRun, withSiteToRead } from "../context.js";
import { bytesText, countedText } from "../text.js";

export const run: CommandRun = (context) =>
  withSiteToRead(context, async (site) => {
    const status = await walStatus(site);
    context.output.answer(status, textOf(status));
    return isBroken(status) ? 4 : 0;
  });

function textOf(status: WalStatus): string {
  const { window, server } = status;
  return [
    window === null
      ? "No moment can be reached yet: make a base with jbackup backup full, then jbackup backup wal"
      : `Every moment from ${window.from.at} to ${window.to.at} can be reached`,
    ...(window === null ? [] : [`  lsn      ${window.from.lsn} to ${window.to.lsn}`]),
    `  stored   ${countedText(status.segments, "segment")}, ${bytesText(status.storedBytes)}`,
    ...status.timelines.map(
      ({ timeline, from, to, until }) => `  timeline ${timeline}: ${from} to ${to}, stored by ${until}`,
    ),
    ...(status.ways.length < 2 ? [] : status.ways.map(wayLine)),
    ...status.holes.map(({ timeline, from, to }) => `  missing  timeline ${timeline}: ${from} to ${to}`),
    ...(server === null ? [`  server   cannot be asked: ${status.serverError}`] : serverLines(server)),
    ...status.unread.map((storage) => `  unread   storage ${storage}`),
    ...status.warnings.map((warning) => `Note: ${warning}`),
  ].join("\n");
}

const wayLine = ({ timeline, left, window }: WalStatus["ways"][number]): string =>
  `  along    timeline ${timeline}${left === null ? "" : `, which left timeline ${left.timeline} at ${left.lsn}`}: every moment from ${window.from.at} to ${window.to.at}`;

const serverLines = ({ slot, archiver, pgWal }: NonNullable<WalStatus["server"]>): string[] => [
  ...(slot === null
    ? []
    : [
        `  slot     ${slot.name}: ${bytesText(slot.lagBytes)} behind, ${slot.isActive ? "followed now" : "not followed now"}, ${slot.status}`,
      ]),
  ...(archiver === null
    ? []
    : [
        `  archiver last ${archiver.lastArchived ?? "nothing"} at ${archiver.lastArchivedAt ?? "no time"}, ${countedText(archiver.failures, "failure")}`,
      ]),
  `  pg_wal   ${bytesText(pgWal.bytes)}${pgWal.filledPercent === null ? "" : `, ${pgWal.filledPercent} % of what it may use`}`,
];
