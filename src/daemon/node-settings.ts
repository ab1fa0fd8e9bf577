// What options say about a node itself, with what it has from the node above where they say nothing.

import type { OptionDict } from '../chain/option-dict.ts';
import type { CacheMode } from '../io/host.ts';
import type { NodeSettings } from './node.ts';

/** What the node above passes on. */
export interface Inherited {
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly cache: CacheMode;
  readonly forceShare: boolean;
  readonly discard: boolean;
}

export const AT_THE_TOP: Inherited = {
  readOnly: false,
  autoReadOnly: false,
  cache: 'writeback',
  forceShare: false,
  discard: false,
};

/** What does not make sense is told by who opens the node. */
export function settingsOf(
  options: OptionDict,
  inherited: Inherited,
  generateName: () => string,
): NodeSettings {
  const given = options.copy();
  const bool = (key: string, otherwise: boolean) => given.takeBool(key) ?? otherwise;
  const text = given.takeText('discard');
  const zeroes = given.takeText('detect-zeroes');
  const readOnly = bool('read-only', inherited.readOnly);
  return {
    name: given.takeText('node-name') ?? generateName(),
    readOnly,
    autoReadOnly: !readOnly && bool('auto-read-only', inherited.autoReadOnly),
    cache: cacheOf(
      inherited.cache,
      given.takeBool('cache.direct'),
      given.takeBool('cache.no-flush'),
    ),
    forceShare: bool('force-share', inherited.forceShare),
    discard: text === undefined ? inherited.discard : text === 'unmap' || text === 'on',
    detectZeroes: zeroes === 'on' || zeroes === 'unmap' ? zeroes : 'off',
  };
}

function cacheOf(above: CacheMode, direct?: boolean, noFlush?: boolean): CacheMode {
  if (noFlush ?? above === 'unsafe') return 'unsafe';
  return (direct ?? (above === 'none' || above === 'directsync')) ? 'none' : 'writeback';
}

/** For the file of a format, which sends on what is discarded as it was told to itself. */
export function forFile(settings: NodeSettings): Inherited {
  return { ...settings, discard: true };
}

/** A backing file is only read. */
export function forBacking(settings: NodeSettings): Inherited {
  return { ...settings, readOnly: true, autoReadOnly: false, discard: false };
}
