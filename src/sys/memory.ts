/**
 * Gives the memory behind a buffer that nobody reads any more back at once, rather than when V8 next looks for garbage:
 * a thread that passes gigabytes through buffers of a megabyte otherwise spends its time on looking. Whoever still holds
 * the buffer finds it empty. A part of Node's shared pool is left alone.
 */
export function freeMemory(buffer: Buffer): void {
  const { buffer: memory } = buffer;
  // what the pool gives out is less than half of it
  const isAlone = buffer.byteLength >= Buffer.poolSize && buffer.byteOffset === 0;
  if (isAlone && memory instanceof ArrayBuffer && !memory.detached) memory.transfer(0);
}
