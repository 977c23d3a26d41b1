export const lsnNumber = (lsn: string): bigint => {
  const [high = "0", low = "0"] = lsn.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
};

export const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;

const hex = (value: bigint): string => value.toString(16).toUpperCase().padStart(8, "0");

/** The files of the WAL from one LSN up to, not including, another. */
export function segmentNames(timeline: number, from: bigint, to: bigint, segmentBytes: bigint): string[] {
  const perLog = 0x1_0000_0000n / segmentBytes;
  const names: string[] = [];
  for (let number = from / segmentBytes; number <= (to - 1n) / segmentBytes; number++)
    names.push(`${hex(BigInt(timeline))}${hex(number / perLog)}${hex(number % perLog)}`);
  return names;
}
