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

/** What moves in one piece. */
type Piece = { -readonly [Key in keyof CloneRange]: CloneRange[Key] };

/**
 * Hands the clusters that were taken for `ranges` (whole clusters) out again, in the order of the
 * sources. `placed` are the places of each range; the same clusters come back, as `places`, and what
 * has to move there, in as few pieces as it can be. Ranges that have their place already come last, in
 * the order that they are given in.
 */
export function inSourceOrder(
  ranges: readonly PlacedRange[],
  placed: readonly (readonly Placement[])[],
  clusterSize: number,
): { readonly places: Placement[]; readonly pieces: readonly CloneRange[] } {
  const sourced = withSources(ranges, placed);
  const room = new Room(placed, clusterSize);
  const places: Placement[] = [];
  const pieces: Piece[] = [];
  for (const { placement, source, from } of bySource(sourced)) {
    const { guest, clusters } = placement;
    for (let done = 0; done < clusters; ) {
      const run = room.next(clusters - done);
      const start = done * clusterSize;
      const length = run.clusters * clusterSize;
      const part = { from: guest + start, to: guest + start + length };
      places.push({ ...placement, ...part, guest: part.from, ...run });
      append(pieces, source, from + start, run.host, length);
      done += run.clusters;
    }
  }
  for (const { placement, source, from } of sourced) {
    if (placement.taken) continue;
    places.push(placement);
    append(pieces, source, from, placement.host, placement.clusters * clusterSize);
  }
  return { places, pieces };
}

function append(pieces: Piece[], source: Storage, from: number, to: number, length: number): void {
  const last = pieces.at(-1);
  const follows =
    last?.source === source && last.from + last.length === from && last.to + last.length === to;
  if (follows) last.length += length;
  else pieces.push({ source, from, to, length });
}

function withSources(
  ranges: readonly PlacedRange[],
  placed: readonly (readonly Placement[])[],
): readonly Sourced[] {
  const sourced: Sourced[] = [];
  for (const [range, { offset, host }] of ranges.entries()) {
    for (const placement of placed[range] ?? []) {
      const from = host.offset + (placement.guest - offset);
      sourced.push({ placement, source: host.storage, from });
    }
  }
  return sourced;
}

/** Those whose place was taken for them. */
function bySource(sourced: readonly Sourced[]): readonly Sourced[] {
  const sources = new Map<Storage, Sourced[]>();
  for (const each of sourced) {
    if (!each.placement.taken) continue;
    const same = sources.get(each.source);
    if (same === undefined) sources.set(each.source, [each]);
    else same.push(each);
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
