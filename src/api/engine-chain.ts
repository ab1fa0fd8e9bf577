// A chain of the engine behind the interfaces that users see.

import type { ChainLayer, Chain as EngineChain } from '../chain/chain.ts';
import { openChain as openEngineChain } from '../chain/open.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { COMPATIBLE } from '../qcow2/spec.ts';
import { alignUp, checkOffset, MIB } from '../units.ts';
import type { Cancellable, Chain, Layer, OpenOptions, Qcow2Details, ViewOptions } from './chain.ts';
import { chainExtents, layerExtents, rangeOf } from './extents.ts';
import { located } from './located.ts';
import type { ImageSource } from './source.ts';

export async function openEngine(
  source: ImageSource,
  options: OpenOptions = {},
): Promise<EngineChain> {
  const { signal, backing = true, host: givenHost, ...rest } = options;
  signal?.throwIfAborted();
  const { filename, host } = located(source, givenHost);
  const chain = await openEngineChain(filename, { ...rest, host, single: !backing });
  if (signal?.aborted) {
    await chain.close();
    signal.throwIfAborted();
  }
  return chain;
}

const PIECE = MIB;

export function wrap(chain: EngineChain): Chain {
  const layers = chain.layers.map(layerOf) as unknown as Chain['layers'];
  const close = () => chain.close();
  return {
    layers,
    get size() {
      return chain.size;
    },
    read: (offset, target, options) => readPieces(chain, offset, target, options),
    async write(offset, source, options = {}) {
      checkOffset(offset, 'Offset');
      for (let done = 0; ; ) {
        options.signal?.throwIfAborted();
        const end = Math.min(source.length, pieceEnd(offset + done) - offset);
        await chain.write(offset + done, source.subarray(done, end));
        done = end;
        if (done >= source.length) return;
      }
    },
    zero: (offset, length) => chain.zero(offset, length),
    view: (options) => view(chain, options),
    extents: (options) => chainExtents(chain, options),
    flush: () => chain.flush(),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function layerOf({ layer, filename, storedName, formatKnown }: ChainLayer): Layer {
  const image = layer instanceof Qcow2Image ? layer : null;
  return {
    filename,
    storedName,
    format: layer.format,
    formatKnown,
    get size() {
      return layer.size;
    },
    clusterSize: layer.clusterSize,
    backingFile: image?.header.backingFile ?? null,
    backingFormat: image?.header.backingFormat ?? null,
    qcow2: image && detailsOf(image),
    allocatedBytes: () => layer.storage.allocatedBytes(),
    async snapshots() {
      const snapshots = (await image?.snapshots()) ?? [];
      return snapshots.map(({ id, name, seconds, nanoseconds, diskSize, vmStateSize }) => {
        const date = new Date(seconds * 1000 + Math.floor(nanoseconds / 1_000_000));
        return { id, name, date, diskSize, vmStateSize };
      });
    },
    extents: (options) => layerExtents(layer, options),
    read: (offset, target, options) => readPieces(layer, offset, target, options),
  };
}

function detailsOf(image: Qcow2Image): Qcow2Details {
  const { header, geometry, dirty, corrupt, unsupportedForReading } = image;
  return {
    version: header.version,
    refcountBits: geometry.refcountBits,
    compressionType: header.compressionType,
    lazyRefcounts: (header.compatibleFeatures & COMPATIBLE.lazyRefcounts) !== 0n,
    dirty,
    corrupt,
    unsupported: unsupportedForReading,
  };
}

interface Readable {
  read(offset: number, target: Uint8Array): Promise<void>;
}

/** A signal is looked at between pieces. An empty read checks its range, too. */
async function readPieces(
  from: Readable,
  offset: number,
  target: Uint8Array,
  { signal }: Cancellable = {},
): Promise<void> {
  checkOffset(offset, 'Offset');
  for (let done = 0; ; ) {
    signal?.throwIfAborted();
    const end = Math.min(target.length, pieceEnd(offset + done) - offset);
    await from.read(offset + done, target.subarray(done, end));
    done = end;
    if (done >= target.length) return;
  }
}

/** Pieces end where clusters of any size end, so that none is written twice. */
function pieceEnd(at: number): number {
  return alignUp(at + 1, 2 * PIECE);
}

async function* view(chain: EngineChain, options: ViewOptions = {}): AsyncGenerator<Uint8Array> {
  const { start, end } = rangeOf(chain.size, options);
  const { signal, pieceBytes = PIECE } = options;
  checkOffset(pieceBytes - 1, 'Length of a piece less 1');
  for (let offset = start; offset < end; offset += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, end - offset));
    await readPieces(chain, offset, piece, signal && { signal });
    yield piece;
  }
}
