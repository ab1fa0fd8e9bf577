// A chain of the engine behind the interfaces that users see.

import type { ChainLayer, Chain as EngineChain } from '../chain/chain.ts';
import { openChain as openEngineChain } from '../chain/open.ts';
import { ImageError } from '../errors.ts';
import type { Checking } from '../qcow2/header.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { COMPATIBLE } from '../qcow2/spec.ts';
import { alignUp, checkOffset, MIB } from '../units.ts';
import type { Cancellable, Chain, Layer, OpenOptions, Qcow2Details, ViewOptions } from './chain.ts';
import { checkCache, checkCount } from './checks.ts';
import { secretsFor } from './engine-secrets.ts';
import { chainExtents, chainStatus, layerExtents, rangeOf } from './extents.ts';
import { isStorage, located } from './located.ts';
import type { ImageSource } from './source.ts';

export async function openEngine(
  source: ImageSource,
  options: OpenOptions = {},
  checking: Checking = false,
): Promise<EngineChain> {
  const { signal, backing = true, host: givenHost, secrets, ...rest } = options;
  try {
    checkCache(rest.cache);
    checkCount('cacheBytes', rest.cacheBytes ?? 0);
    const { target, host } = located(source, givenHost);
    const label = isStorage(source) ? { label: source.filename } : {};
    const keys = secretsFor(secrets);
    const cancel = signal && { signal };
    const open = { ...rest, ...label, ...keys, ...cancel, host, single: !backing, checking };
    const chain = await openEngineChain(target, open);
    if (!signal?.aborted) return chain;
    await chain.close();
    throw signal.reason;
  } catch (error) {
    // Ours from the start on; it may not even have been looked at.
    if (isStorage(source)) await source.close().catch(() => undefined);
    throw error;
  }
}

const PIECE = MIB;
/** Zeros take few requests, but an image may have to write them. */
const ZERO_PIECE = 64 * MIB;

const ENGINES = new WeakMap<Chain, EngineChain>();

/** The engine's chain behind one that a user holds. */
export function engineOf(chain: Chain): EngineChain {
  const engine = ENGINES.get(chain);
  if (engine !== undefined) return engine;
  throw new ImageError('invalid', 'The chain was not opened by this library');
}

/** `told`: how its users know the names in it. */
export function wrap(chain: EngineChain, told: (name: string) => string): Chain {
  const layers = chain.layers.map((layer) => layerOf(layer, told)) as unknown as Chain['layers'];
  const close = () => chain.close();
  const held: Chain = {
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
    async zero(offset, length, { signal } = {}) {
      checkOffset(length, 'Length');
      const { start, end } = rangeOf(chain.size, { offset, length });
      for (let at = start; ; ) {
        signal?.throwIfAborted();
        const next = signal === undefined ? end : Math.min(end, alignUp(at + 1, ZERO_PIECE));
        await chain.zero(at, next - at);
        at = next;
        if (at >= end) return;
      }
    },
    view: (options) => view(chain, options),
    extents: (options) => chainExtents(chain, options),
    status: (options) => chainStatus(chain, options),
    flush: () => chain.flush(),
    close,
    [Symbol.asyncDispose]: close,
  };
  ENGINES.set(held, chain);
  return held;
}

function layerOf(
  { layer, filename, storedName, formatKnown }: ChainLayer,
  told: (name: string) => string,
): Layer {
  const image = layer instanceof Qcow2Image ? layer : null;
  return {
    filename: told(filename),
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

async function* view(
  chain: EngineChain,
  options: ViewOptions = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const { start, end } = rangeOf(chain.size, options);
  const { signal, pieceBytes = PIECE } = options;
  checkOffset(pieceBytes - 1, 'Length of a piece less 1');
  for (let offset = start; offset < end; offset += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, end - offset));
    await readPieces(chain, offset, piece, signal && { signal });
    yield piece;
  }
}
