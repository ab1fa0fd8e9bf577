// A chain looked at as a whole, sound or not: its layers as far down as they can be opened, what each
// holds, what is wrong with it and what to do about that, and who else stands on it.

import { ImageError } from '../errors.ts';
import type { Host } from '../io/host.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { KIB } from '../units.ts';
import type { Chain } from './chain.ts';
import { hostFileOf, resolveName } from './filename.ts';
import { type Source, visitHoldings } from './holdings.ts';
import { checkL1Total } from './l1-total.ts';
import { MAX_DEPTH, openChain } from './open.ts';
import {
  deepProblem,
  extentsProblem,
  type FormatOrigin,
  loopProblem,
  openProblem,
  type Problem,
  problemsOf,
} from './problems.ts';
import { asDirectory, directoriesOf, findOverlays } from './siblings.ts';
import { type Held, Strip } from './strip.ts';

export interface SurveyOptions {
  readonly host: Host;
  /** Format of the top; probed without it. */
  readonly format?: string;
  /** Takes no locks. */
  readonly forceShare?: boolean;
  /** Further directories to look for siblings in. */
  readonly search?: readonly string[];
  /** How many parts a strip has at most, once the names of the layers are known. Default 1. */
  readonly cells?: (filenames: readonly string[]) => number;
}

export interface SurveyedLayer {
  readonly filename: string;
  /** As its overlay stores it, or as the user gave it. */
  readonly storedName: string;
  /** Null where it could not be opened. */
  readonly opened: {
    readonly format: string;
    readonly formatOrigin: FormatOrigin;
    readonly size: number;
    readonly clusterSize: number;
    /** Length of the file, and what it takes on its host now. */
    readonly fileBytes: number;
    readonly allocatedBytes: number;
  } | null;
  readonly held: Held;
  readonly strip: Strip;
  readonly problems: readonly Problem[];
  /** Other images found whose backing file it is. */
  readonly siblings: readonly string[];
}

export interface Survey {
  /** Top first. The last one was not opened where the chain is broken. */
  readonly layers: readonly SurveyedLayer[];
  /** Of the guest's disk. */
  readonly size: number;
  /** Of the longest layer: what the strips stand for. */
  readonly longest: number;
  /** Files and directories beside them that could not be read: they may stand on a layer, too. */
  readonly unread: readonly string[];
}

interface Found {
  readonly filename: string;
  readonly storedName: string;
  readonly id: string | undefined;
  readonly formatOrigin: FormatOrigin;
  readonly chain: Chain | null;
  readonly problems: Problem[];
}

/** The walk through the tables goes once from start to end: a few tables at a time are enough. */
const CACHE_BYTES = 512 * KIB;

/** Rejects where the top can't be opened. All files are closed again when it resolves. */
export async function surveyChain(filename: string, options: SurveyOptions): Promise<Survey> {
  const found: Found[] = [];
  try {
    await openAll(filename, options, found);
    return await describeAll(found, options);
  } finally {
    for (const { chain } of found) await chain?.close().catch(() => undefined);
  }
}

interface Next {
  readonly storedName: string;
  readonly format: string | undefined;
  readonly origin: FormatOrigin;
}

async function openAll(filename: string, options: SurveyOptions, found: Found[]): Promise<void> {
  const { format } = options;
  let next: Next | null = {
    storedName: filename,
    format,
    origin: format === undefined ? 'probed' : 'given',
  };
  while (next !== null) {
    const layer: Found = await openNext(next, found, options);
    found.push(layer);
    next = backingOf(layer.chain?.top);
  }
}

function backingOf(layer: Layer | undefined): Next | null {
  if (!(layer instanceof Qcow2Image) || layer.header.backingFile === null) return null;
  const { backingFile, backingFormat } = layer.header;
  return {
    storedName: backingFile,
    format: backingFormat ?? undefined,
    origin: backingFormat === null ? 'probed' : 'stored',
  };
}

async function openNext(
  { storedName, format, origin }: Next,
  found: readonly Found[],
  { host, forceShare }: SurveyOptions,
): Promise<Found> {
  const above = found.at(-1)?.filename;
  const filename = above === undefined ? storedName : resolveName(above, storedName);
  const id = await identify(host, filename);
  const layer = { filename, storedName, id, formatOrigin: origin, chain: null };
  if (id !== undefined && found.some((each) => each.id === id)) {
    return { ...layer, problems: [loopProblem(filename, above ?? filename)] };
  }
  if (found.length === MAX_DEPTH) return { ...layer, problems: [deepProblem(MAX_DEPTH)] };
  let chain: Chain | undefined;
  try {
    if (above !== undefined) await host.checkNamed?.(storedName, filename);
    chain = await openChain(filename, {
      host,
      single: true,
      describe: true,
      cacheBytes: CACHE_BYTES,
      ...(format !== undefined && { format }),
      ...(forceShare !== undefined && { forceShare }),
    });
    const layers = [...found.map((each) => each.chain?.top), chain.top];
    checkL1Total(layers.filter((each) => each !== undefined));
    const problems = problemsOf(chain.top, { filename, storedName, above, origin });
    return { ...layer, chain, problems: [...problems] };
  } catch (error) {
    await chain?.close();
    // Without a top there is nothing to show.
    if (!(error instanceof ImageError) || above === undefined) throw error;
    return { ...layer, problems: [openProblem(error, { filename, storedName, above, origin })] };
  }
}

/** Undefined for what is not there, or has a name that means no file. */
async function identify(host: Host, filename: string): Promise<string | undefined> {
  try {
    return (await host.identify(hostFileOf(filename)))?.id;
  } catch {
    return undefined;
  }
}

async function describeAll(found: readonly Found[], options: SurveyOptions): Promise<Survey> {
  const size = found[0]?.chain?.size ?? 0;
  const longest = Math.max(0, ...found.map(({ chain }) => chain?.size ?? 0));
  const cells = options.cells?.(found.map(({ filename }) => filename)) ?? 1;
  const strips = found.map(() => new Strip(longest, cells));
  await visitHoldings(
    found.map((_, index) => sourceOf(found, index)),
    {
      held: (index, kind, from, to, hidden) => strips[index]?.add(kind, from, to, hidden),
      failed: (index, error) => noteFailure(found[index], error),
    },
  );
  const others = await overlaysOf(found, options);
  const layers = found.map(async (layer, index): Promise<SurveyedLayer> => {
    const { filename, storedName, problems } = layer;
    const strip = strips[index] as Strip;
    const siblings = others.siblings[index] ?? [];
    const opened = await openedPart(layer);
    return { filename, storedName, opened, held: strip.held, strip, problems, siblings };
  });
  return { layers: await Promise.all(layers), size, longest, unread: others.unread };
}

/** A layer that is not there may hold anything, as far as the one above it looks down. */
function sourceOf(found: readonly Found[], index: number): Source {
  const layer = found[index]?.chain?.top;
  if (layer === undefined) {
    const size = found[index - 1]?.chain?.size ?? 0;
    return { size, clusterSize: 1, extents: null };
  }
  const { size, clusterSize } = layer;
  const readable = !(layer instanceof Qcow2Image) || layer.refusalToMap === null;
  const extents = (offset: number, length: number) => layer.extents(offset, length);
  return { size, clusterSize, extents: readable ? extents : null };
}

/** The first failure of a layer says enough. */
function noteFailure(layer: Found | undefined, error: ImageError): void {
  if (layer === undefined || layer.problems.some(({ ofExtents }) => ofExtents)) return;
  layer.problems.push(extentsProblem(error, layer.filename));
}

async function openedPart(layer: Found): Promise<SurveyedLayer['opened']> {
  if (layer.chain === null) return null;
  const { format, size, clusterSize, storage } = layer.chain.top;
  return {
    format,
    formatOrigin: layer.formatOrigin,
    size,
    clusterSize,
    fileBytes: storage.size,
    allocatedBytes: (await storage.allocatedBytes()) ?? 0,
  };
}

interface OverlaysOfAll {
  /** By layer. */
  readonly siblings: readonly (readonly string[])[];
  readonly unread: readonly string[];
}

/** For each layer who else stands on it: in the directories that can be read. */
async function overlaysOf(
  found: readonly Found[],
  { host, search = [] }: SurveyOptions,
): Promise<OverlaysOfAll> {
  const files = found.filter(({ id }) => id !== undefined).map(({ filename }) => filename);
  const directories = await directoriesOf(host, files.map(hostFileOf), search);
  const required = new Set(search.map(asDirectory));
  const { overlays, unread } = await findOverlays(host, directories, required);
  const siblings = await Promise.all(
    found.map(async ({ id }, index) => {
      const names = id === undefined ? [] : (overlays.get(id) ?? []);
      const own = found[index - 1]?.id;
      const others: string[] = [];
      for (const name of names) {
        if ((await identify(host, name)) !== own) others.push(name);
      }
      return others;
    }),
  );
  return { siblings, unread };
}
