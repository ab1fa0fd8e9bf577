// In which order many ranges go to places that were taken for them: as they lie in their source, so
// that what lies together there lies together here as well, and moves in one piece.

import { assert } from '../errors.ts';
import type { CloneRange, Storage } from '../io/storage.ts';
import type { PlacedRange } from '../layer.ts';
import { hostOffset } from '../units.ts';
import type { Placement } from './place.ts';

/** Where a placement's bytes come from. */
interface Sourced {
  readonly placement: Placement;
  readonly source: Storage;
  readonly from: number;
}

type Clone = { -readonly [Key in keyof CloneRange]: CloneRange[Key] };

/**
 * Hands the clusters that were taken for `ranges` (whole clusters) out again, in the order of the
 * sources. `placed` are the places of each range; the same clusters come back, as `places`, and what
 * has to be cloned to them, in as few pieces as it can be.
 */
export function inSourceOrder(
  ranges: readonly PlacedRange[],
  placed: readonly (readonly Placement[])[],
  clusterSize: number,
): { readonly places: Placement[]; readonly clones: readonly CloneRange[] } {
  const sourced = bySource(ranges, placed);
  const room = new Room(placed, clusterSize);
  const places: Placement[] = [];
  const clones: Clone[] = [];
  for (const { placement, source, from } of sourced) {
    const { guest, host, clusters, taken } = placement;
    if (!taken) {
      places.push(placement);
      append(clones, source, from, host, clusters * clusterSize);
      continue;
    }
    for (let done = 0; done < clusters; ) {
      const run = room.next(clusters - done);
      const start = done * clusterSize;
      const length = run.clusters * clusterSize;
      const part = { from: guest + start, to: guest + start + length };
      places.push({ ...placement, ...part, guest: part.from, ...run });
      append(clones, source, from + start, run.host, length);
      done += run.clusters;
    }
  }
  return { places, clones };
}

function append(clones: Clone[], source: Storage, from: number, to: number, length: number): void {
  const last = clones.at(-1);
  const follows =
    last?.source === source && last.from + last.length === from && last.to + last.length === to;
  if (follows) last.length += length;
  else clones.push({ source, from, to, length });
}

function bySource(
  ranges: readonly PlacedRange[],
  placed: readonly (readonly Placement[])[],
): readonly Sourced[] {
  const sources = new Map<Storage, Sourced[]>();
  for (const [range, { offset, host }] of ranges.entries()) {
    const { storage: source } = host;
    const sourced = sources.get(source) ?? [];
    if (sourced.length === 0) sources.set(source, sourced);
    for (const placement of placed[range] ?? []) {
      sourced.push({ placement, source, from: host.offset + (placement.guest - offset) });
    }
  }
  for (const each of sources.values()) each.sort((a, b) => a.from - b.from);
  return [...sources.values()].flat();
}

/** Clusters that were taken, from the lowest on. */
class Room {
  readonly #taken: readonly Placement[];
  readonly #clusterSize: number;
  #current = 0;
  /** Clusters of the current one that are given away. */
  #used = 0;

  constructor(placed: readonly (readonly Placement[])[], clusterSize: number) {
    const taken = placed.flat().filter((placement) => placement.taken);
    this.#taken = taken.sort((a, b) => a.host - b.host);
    this.#clusterSize = clusterSize;
  }

  /** At most `wanted` clusters in one piece. */
  next(wanted: number): Pick<Placement, 'host' | 'clusters'> {
    const run = this.#taken[this.#current];
    assert(run, 'more clusters than were taken');
    const host = hostOffset(run.host + this.#used * this.#clusterSize);
    const clusters = Math.min(wanted, run.clusters - this.#used);
    this.#used += clusters;
    if (this.#used === run.clusters) {
      this.#current++;
      this.#used = 0;
    }
    return { host, clusters };
  }
}
