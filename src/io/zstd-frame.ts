// Where a zstd frame ends (RFC 8878, section 3.1.1), and whether its output can fit. Pure.

import { ImageError } from '../errors.ts';

const MAGIC = 0xfd2fb528;
/** What decoders take by default: they keep that many bytes of output in memory. */
const MAX_WINDOW = 2 ** 27;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

function bad(what: string): ImageError {
  return new ImageError('corrupt', `zstd frame: ${what}`, { errno: 'EIO' });
}

/**
 * Bytes of the frame at the start of `bytes`. Throws `corrupt` where there is none, where it is cut,
 * or where it declares more than `maxOutput` bytes of output or a window past 128 MiB.
 */
export function zstdFrameLength(bytes: Uint8Array, maxOutput: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const need = (end: number): void => {
    if (end > bytes.length) throw bad('cut short');
  };
  need(6);
  if (view.getUint32(0, true) !== MAGIC) throw bad('no magic number');
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentFlag = descriptor >> 6;
  const contentBytes = contentFlag === 0 ? (singleSegment ? 1 : 0) : 2 ** contentFlag;
  if (!singleSegment && windowSize(view.getUint8(5)) > MAX_WINDOW) throw bad('window too large');
  let position = 5 + (singleSegment ? 0 : 1) + dictionaryBytes;
  need(position + contentBytes);
  if (contentSize(view, position, contentBytes) > maxOutput) throw bad('its content is too large');
  position += contentBytes;
  for (let last = false; !last; ) {
    need(position + 3);
    const header =
      view.getUint8(position) |
      (view.getUint8(position + 1) << 8) |
      (view.getUint8(position + 2) << 16);
    const type = (header >> 1) & 3;
    if (type === BLOCK_RESERVED) throw bad('reserved block type');
    last = (header & 1) !== 0;
    position += 3 + (type === BLOCK_RLE ? 1 : header >> 3);
    need(position);
  }
  const checksumBytes = descriptor & 4 ? 4 : 0;
  need(position + checksumBytes);
  return position + checksumBytes;
}

function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}

function contentSize(view: DataView, position: number, bytes: number): number {
  switch (bytes) {
    case 0:
      return 0;
    case 1:
      return view.getUint8(position);
    case 2:
      return view.getUint16(position, true) + 256;
    case 4:
      return view.getUint32(position, true);
    default:
      return Number(view.getBigUint64(position, true));
  }
}
