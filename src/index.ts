// The library: named re-exports, no logic.

export type { BlockStatus } from './chain/block-status.ts';
export type { Chain, ChainLayer } from './chain/chain.ts';
export { type CompareOptions, type Comparison, compareChains } from './chain/compare.ts';
export { CompareError } from './chain/compare-pieces.ts';
export type { BlockDescription } from './chain/description.ts';
export type { OpenChainOptions } from './chain/open.ts';
export type { CommitProgress } from './commit/copy.ts';
export type { CommitOptions, CommitPlan, CommitResult } from './commit/options.ts';
export { ImageError, type ImageErrorCode } from './errors.ts';
export { nodeCodecs } from './io/codecs.ts';
export type { StorageEvent } from './io/events.ts';
export type { CacheMode, Codecs, Host } from './io/host.ts';
export { MemoryStorage } from './io/memory.ts';
export { MemoryHost, type MemoryHostOptions } from './io/memory-host.ts';
export { nodeHost } from './io/node-host.ts';
export type { Storage, StorageExtent, WriteKind } from './io/storage.ts';
export { RateLimit } from './io/throttle.ts';
export type { Extent, HostRange, Layer, LayerFormat } from './layer.ts';
export { commit, createImage, openChain } from './node.ts';
export type { CreateOptions } from './qcow2/create.ts';
export { Qcow2Image } from './qcow2/image.ts';
export type { Preallocation } from './qcow2/preallocate.ts';
export { RawImage } from './raw/raw.ts';
