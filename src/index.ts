// The library: named re-exports, no logic.

export type {
  BlockStatus,
  Cancellable,
  Chain,
  ChainExtent,
  Layer,
  LayerExtent,
  LayerFormat,
  OpenOptions,
  Qcow2Details,
  RangeOptions,
  Snapshot,
  ViewOptions,
} from './api/chain.ts';
export { type CheckOptions, type CheckReport, checkImage, type Finding } from './api/check.ts';
export {
  type CommitEvent,
  type CommitOptions,
  type CommitPlan,
  type CommitProgress,
  commit,
  commitEvents,
  planCommit,
  type RateLimit,
  rateLimit,
} from './api/commit.ts';
export {
  type CompareOptions,
  type CompareProgress,
  type Comparison,
  compareChains,
} from './api/compare.ts';
export { type CreateOptions, createImage } from './api/create.ts';
export type {
  DebugDescription,
  FileDescription,
  ImageDescription,
  InjectErrorRule,
  NbdDescription,
  NodeOptions,
  NullDescription,
  OverlapChecks,
  OverlapTemplate,
  ProbedDescription,
  Qcow2Description,
  RawDescription,
  SetStateRule,
} from './api/description.ts';
export type { NewEncryption } from './api/encryption.ts';
export { nodeCodecs, nodeHost } from './api/node-host.ts';
export { openChain } from './api/open-chain.ts';
export { planRebase, type RebaseOptions, type RebaseReport, rebase } from './api/rebase.ts';
export { type RepairOptions, type RepairReport, repairImage } from './api/repair.ts';
export { type ResizeOptions, resizeImage } from './api/resize.ts';
export type { Secrets } from './api/secrets.ts';
export type { ImageSource } from './api/source.ts';
export { type Trust, trustingHost } from './api/trust.ts';
export {
  ImageError,
  type ImageErrorCode,
  type ImageErrorDetails,
  type LockHolder,
} from './errors.ts';
export { STORAGE_EVENTS, type StorageEvent } from './io/events.ts';
export type {
  BlockCipher,
  CacheMode,
  Codecs,
  Crypto,
  FileIdentity,
  HashName,
  Host,
  NbdServerAddress,
  NbdTarget,
  OpenStorageOptions,
} from './io/host.ts';
export type { Permission } from './io/locks.ts';
export { MemoryStorage, type MemoryStorageOptions } from './io/memory.ts';
export { MemoryHost, type MemoryHostOptions } from './io/memory-host.ts';
export type { CloneRange, Storage, StorageExtent, WriteKind } from './io/storage.ts';
