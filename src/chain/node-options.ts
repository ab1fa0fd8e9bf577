// Options that many nodes share, and those of qcow2: read, checked, and reduced to what has a
// meaning here. Caches and hints that change no data are checked and let pass.

import { ImageError } from '../errors.ts';
import { OVERLAP_TEMPLATES, STRUCTURE_KINDS, type StructureKind } from '../qcow2/overlap.ts';
import type { CommonOptions } from './blockdev.ts';
import { OptionDict } from './option-dict.ts';

const invalid = (message: string) => new ImageError('invalid', message);

const DETECT_ZEROES = ['off', 'on', 'unmap'] as const;

export function takeCommon(options: OptionDict): CommonOptions {
  const nodeName = options.takeText('node-name');
  if (nodeName !== undefined && !/^[a-z][a-z0-9._-]*$/i.test(nodeName)) {
    throw invalid(`Invalid node-name: '${nodeName}'`);
  }
  const readOnly = options.takeBool('read-only') ?? false;
  options.takeBool('auto-read-only');
  const forceShare = options.takeBool('force-share') ?? false;
  const direct = options.takeBool('cache.direct');
  const noFlush = options.takeBool('cache.no-flush');
  const discard = options.takeText('discard');
  if (discard !== undefined && !/^(ignore|off|unmap|on)$/.test(discard)) {
    throw invalid('Invalid discard option');
  }
  const zeroes = options.takeOneOf('detect-zeroes', DETECT_ZEROES);
  if (zeroes === 'unmap' && discard !== 'unmap' && discard !== 'on') {
    throw invalid(
      'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap',
    );
  }
  return { readOnly, forceShare, direct, noFlush };
}

/** What an image whose format is not known yet has of them; what is wrong is told later. */
export function commonOf(options: OptionDict): CommonOptions {
  // This one QEMU reads first of all.
  options.copy().takeBool('read-only');
  try {
    return takeCommon(options.copy());
  } catch {
    return takeCommon(new OptionDict());
  }
}

export interface Qcow2Options {
  readonly cacheBytes: number | undefined;
  /** Checked against the image's clusters; ours need none. */
  readonly cacheEntryBytes: number | undefined;
  /** Structures that nothing else is written over. */
  readonly guarded: ReadonlySet<StructureKind>;
  readonly encrypt: EncryptOptions;
}

/** What an image is told about its encryption. */
export interface EncryptOptions {
  readonly format: string | undefined;
  /** Name of the secret that holds the passphrase. */
  readonly keySecret: string | undefined;
  /** What nobody knows; wrong only where there is encryption at all. */
  readonly unknown: string | undefined;
}

function encryptOptions(options: OptionDict): EncryptOptions {
  const format = options.takeText('format');
  const keySecret = options.takeText('key-secret');
  return { format, keySecret, unknown: options.keys()[0] };
}

export function takeQcow2Options(options: OptionDict): Qcow2Options {
  const encrypt = options.takeBelow('encrypt.');
  const cacheBytes = takeCacheBytes(options);
  const cacheEntryBytes = options.takeSize('l2-cache-entry-size');
  for (const key of ['lazy-refcounts', ...DISCARDS]) options.takeBool(key);
  const guarded = takeOverlapCheck(options);
  return { cacheBytes, cacheEntryBytes, guarded, encrypt: encryptOptions(encrypt) };
}

const DISCARDS = ['pass-discard-request', 'pass-discard-snapshot', 'pass-discard-other'];

function takeCacheBytes(options: OptionDict): number | undefined {
  const whole = options.takeSize('cache-size');
  const l2 = options.takeSize('l2-cache-size');
  const refcounts = options.takeSize('refcount-cache-size');
  const interval = options.takeNumber('cache-clean-interval') ?? 0;
  if (interval < 0 || interval > 0xffff_ffff) throw invalid('Cache clean interval too big');
  if (whole !== undefined) {
    if (l2 !== undefined && refcounts !== undefined) {
      throw invalid(
        'cache-size, l2-cache-size and refcount-cache-size may not be set at the same time',
      );
    }
    if (l2 !== undefined && l2 > whole) throw invalid('l2-cache-size may not exceed cache-size');
    if (refcounts !== undefined && refcounts > whole) {
      throw invalid('refcount-cache-size may not exceed cache-size');
    }
  }
  if (whole === undefined && l2 === undefined) return undefined;
  return whole ?? (l2 ?? 0) + (refcounts ?? 0);
}

/** The structures that nothing else is written over: those of a template, and some by name. */
function takeOverlapCheck(options: OptionDict): ReadonlySet<StructureKind> {
  const short = options.takeText('overlap-check');
  const long = options.takeText('overlap-check.template');
  if (short !== undefined && long !== undefined && short !== long) {
    throw invalid(
      `Conflicting values for qcow2 options 'overlap-check' ('${short}') ` +
        `and 'overlap-check.template' ('${long}')`,
    );
  }
  const template = short ?? long ?? 'cached';
  const kinds = new Map<string, readonly StructureKind[]>(Object.entries(OVERLAP_TEMPLATES));
  const guarded = new Set(kinds.get(template));
  if (!kinds.has(template)) {
    throw invalid(
      `Unsupported value '${template}' for qcow2 option 'overlap-check'. ` +
        `Allowed are any of the following: ${[...kinds.keys()].join(', ')}`,
    );
  }
  for (const kind of STRUCTURE_KINDS) {
    const isGuarded = options.takeBool(`overlap-check.${kind}`);
    if (isGuarded === true) guarded.add(kind);
    else if (isGuarded === false) guarded.delete(kind);
  }
  return guarded;
}
